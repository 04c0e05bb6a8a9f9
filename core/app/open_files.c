#include "core/app/open_files.h"

#include <sys/resource.h>
#include <unistd.h>

#include "core/base/logger.h"
#include "core/net/http_server.h"

/* What may be open at once beside connections of senders. A loop has four: epoll, eventfd, a pipe.
 */
enum {
    /* output, main and query loops, signals, the log's folder, lock, end mark and segment (37), a
     * reload's and a query's files (11), 16 connections to the admin port */
    FIXED = 64,
    PER_WORKER = 6,   /* loop, listener, and the connection that is about to be closed */
    PER_BACKEND = 16, /* loop, segment, cursor, dead letters; 4 connections, or a folder's files */
};

static uint32_t n_workers_of(const struct tg_config *config)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return config->n_workers ? config->n_workers : cores > 0 ? (uint32_t)cores : 1;
}

/* With those that are being told that there are too many. */
static uint64_t cost_of(uint64_t per_worker, uint32_t n_workers)
{
    return (per_worker + tg_http_server_n_refusals((uint32_t)per_worker)) * n_workers;
}

uint32_t tg_open_files_connections(const struct tg_config *config, uint64_t n_files,
                                   uint64_t *reserve)
{
    const uint32_t n_workers = n_workers_of(config), max = config->limits.max_connections;
    *reserve =
        FIXED + (uint64_t)PER_WORKER * n_workers + (uint64_t)PER_BACKEND * config->n_backends;
    const uint64_t left = n_files > *reserve ? n_files - *reserve : 0;
    uint32_t per_worker = (uint32_t)(((uint64_t)max + n_workers - 1) / n_workers);
    if (cost_of(per_worker, n_workers) <= left) return max;
    if (per_worker > left / n_workers) per_worker = (uint32_t)(left / n_workers);
    while (per_worker > 1 && cost_of(per_worker, n_workers) > left) per_worker--;
    const uint32_t fit = (per_worker ? per_worker : 1) * n_workers;
    return fit < max ? fit : max;
}

void tg_open_files_fit(struct tg_config *config)
{
    struct rlimit limit;
    uint64_t reserve;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    const rlim_t want = (rlim_t)config->limits.max_connections + 1024;
    if (limit.rlim_cur < want) {
        const rlim_t before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
    }
    const uint32_t wanted = config->limits.max_connections;
    const uint32_t fit = tg_open_files_connections(config, limit.rlim_cur, &reserve);
    if (fit >= wanted && limit.rlim_cur >= reserve) return;
    if (fit < wanted) config->limits.max_connections = fit;
    if (limit.rlim_cur <= reserve + fit)
        tg_warn("run",
                "only %llu open files are allowed, and log, backends and the admin port may need "
                "%llu of them: each may fail for want of one; raise them with ulimit -n (or "
                "LimitNOFILE=)",
                (unsigned long long)limit.rlim_cur, (unsigned long long)reserve);
    else
        tg_warn("run",
                "only %llu open files are allowed: senders get %u connections, not the %u of "
                "limits.connections, as %llu files are kept for log, backends and the admin port; "
                "raise them with ulimit -n (or LimitNOFILE=), or lower limits.connections",
                (unsigned long long)limit.rlim_cur, fit, wanted, (unsigned long long)reserve);
}
