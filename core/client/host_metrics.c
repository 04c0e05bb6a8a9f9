#include "core/client/host_metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/mem.h"

enum { MAX_ITEMS = 8192, MAX_CPUS = 1024, N_STATES = 8, MAX_TAGS = 6, MAX_MOUNTS = 64 };

static const char *const cpu_states[N_STATES] = {"user",   "nice",      "system",  "idle",
                                                 "iowait", "interrupt", "softirq", "steal"};

struct tg_host_metrics {
    char proc[256];
    char name[256]; /* of the host */
    struct tg_arena arena;
    struct tg_otlp_item *items; /* MAX_ITEMS */
    uint32_t n;
    int64_t now_ns, boot_ns;
    double tick_s;
    bool is_nomem;
    uint64_t (*cpu)[N_STATES]; /* MAX_CPUS, of the last call */
    bool has_cpu;
};

struct tg_host_metrics *tg_host_metrics_new(const char *proc)
{
    struct tg_host_metrics *h = tg_calloc(1, sizeof(*h));
    if (!h) return NULL;
    (void)snprintf(h->proc, sizeof(h->proc), "%s", proc);
    if (gethostname(h->name, sizeof(h->name) - 1) != 0 || !h->name[0])
        (void)snprintf(h->name, sizeof(h->name), "localhost");
    tg_arena_init(&h->arena, 64 << 20);
    const long ticks = sysconf(_SC_CLK_TCK);
    h->tick_s = 1.0 / (double)(ticks > 0 ? ticks : 100);
    h->items = tg_calloc(MAX_ITEMS, sizeof(*h->items));
    h->cpu = tg_calloc(MAX_CPUS, sizeof(*h->cpu));
    if (h->items && h->cpu) return h;
    tg_host_metrics_free(h);
    return NULL;
}

void tg_host_metrics_free(struct tg_host_metrics *h)
{
    if (!h) return;
    tg_arena_deinit(&h->arena);
    tg_free(h->items);
    tg_free(h->cpu);
    tg_free(h);
}

/* --- building a point
 * ---------------------------------------------------------------------------*/

enum what {
    GAUGE,
    COUNTER,
    LEVEL /* a sum that goes up and down */
};

static const char *keep(struct tg_host_metrics *h, const char *s)
{
    const char *copy = tg_arena_strndup(&h->arena, s, strlen(s));
    if (!copy) h->is_nomem = true;
    return copy ? copy : "";
}

static void put_tag(struct tg_host_metrics *h, struct tg_series_desc *d, const char *key,
                    const char *value, enum tg_origin origin)
{
    d->tags[d->n_tags++] = (struct tg_tag){.key = key,
                                           .value = keep(h, value),
                                           .key_len = (uint32_t)strlen(key),
                                           .value_len = (uint32_t)strlen(value),
                                           .origin = (uint8_t)origin};
}

/* One point; then come pairs of key and value, ended by NULL. Names, units and keys are literals.
 */
static struct tg_point *add(struct tg_host_metrics *h, enum what what, const char *name,
                            const char *unit, ...)
{
    static struct tg_point nowhere; /* what is over the limit or the memory is left out */
    struct tg_series_desc *d = tg_arena_calloc(&h->arena, 1, sizeof(*d));
    struct tg_point *p = tg_arena_calloc(&h->arena, 1, sizeof(*p));
    struct tg_tag *tags = tg_arena_calloc(&h->arena, MAX_TAGS, sizeof(*tags));
    if (!d || !p || !tags) h->is_nomem = true;
    if (!d || !p || !tags || h->n == MAX_ITEMS) return &nowhere;
    d->name = name;
    d->name_len = (uint32_t)strlen(name);
    d->unit = unit;
    d->unit_len = (uint32_t)strlen(unit);
    d->tags = tags;
    d->kind = what == COUNTER ? TG_KIND_COUNTER : TG_KIND_GAUGE;
    d->temporality = what == GAUGE ? TG_TEMPORALITY_NONE : TG_TEMPORALITY_CUMULATIVE;
    put_tag(h, d, "host.name", h->name, TG_ORIGIN_RESOURCE);
    put_tag(h, d, "os.type", "linux", TG_ORIGIN_RESOURCE);
    put_tag(h, d, "service.name", "tidegate-host", TG_ORIGIN_RESOURCE);
    va_list ap;
    va_start(ap, unit);
    const char *key;
    while (d->n_tags < MAX_TAGS && (key = va_arg(ap, const char *)))
        put_tag(h, d, key, va_arg(ap, const char *), TG_ORIGIN_POINT);
    va_end(ap);
    p->ts_ns = h->now_ns;
    p->start_ns = what == GAUGE ? 0 : h->boot_ns;
    h->items[h->n++] = (struct tg_otlp_item){.desc = d, .point = p};
    return p;
}

static void set_double(struct tg_point *p, double v)
{
    p->type = TG_VALUE_DOUBLE;
    p->value.f64 = v;
}

static void set_int(struct tg_point *p, uint64_t v)
{
    p->type = TG_VALUE_INT64;
    p->value.i64 = v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

/* --- sources
 * ------------------------------------------------------------------------------------*/

static FILE *open_proc(const struct tg_host_metrics *h, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", h->proc, name);
    return fopen(path, "re");
}

/* One line of /proc/stat for one cpu: ticks per state. */
static void add_cpu(struct tg_host_metrics *h, unsigned cpu, const uint64_t ticks[N_STATES])
{
    char name[32];
    (void)snprintf(name, sizeof(name), "cpu%u", cpu);
    uint64_t total = 0;
    for (size_t i = 0; i < N_STATES; i++) {
        set_double(
            add(h, COUNTER, "system.cpu.time", "s", "cpu", name, "state", cpu_states[i], NULL),
            (double)ticks[i] * h->tick_s);
        if (ticks[i] >= h->cpu[cpu][i]) total += ticks[i] - h->cpu[cpu][i];
    }
    for (size_t i = 0; h->has_cpu && total > 0 && i < N_STATES; i++) {
        const uint64_t part = ticks[i] >= h->cpu[cpu][i] ? ticks[i] - h->cpu[cpu][i] : 0;
        set_double(
            add(h, GAUGE, "system.cpu.utilization", "1", "cpu", name, "state", cpu_states[i], NULL),
            (double)part / (double)total);
    }
    memcpy(h->cpu[cpu], ticks, sizeof(h->cpu[cpu]));
}

static void read_stat(struct tg_host_metrics *h)
{
    FILE *f = open_proc(h, "stat");
    if (!f) return;
    char line[4096];
    bool any = false;
    /* btime comes last, but every counter needs it: a first pass finds it. */
    while (fgets(line, sizeof(line), f)) {
        int64_t boot_s;
        if (sscanf(line, "btime %" SCNd64, &boot_s) == 1) h->boot_ns = boot_s * 1000000000;
    }
    rewind(f);
    while (fgets(line, sizeof(line), f)) {
        unsigned cpu;
        uint64_t t[N_STATES] = {0};
        uint64_t v;
        if (sscanf(line,
                   "cpu%u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                   " %" SCNu64 " %" SCNu64,
                   &cpu, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) >= 5 &&
            cpu < MAX_CPUS) {
            add_cpu(h, cpu, t);
            any = true;
        } else if (sscanf(line, "processes %" SCNu64, &v) == 1) {
            set_int(add(h, COUNTER, "system.process.created", "{process}", NULL), v);
        } else if (sscanf(line, "ctxt %" SCNu64, &v) == 1) {
            set_int(add(h, COUNTER, "system.cpu.context_switches", "{switch}", NULL), v);
        }
    }
    h->has_cpu |= any;
    (void)fclose(f);
}

static void read_memory(struct tg_host_metrics *h)
{
    FILE *f = open_proc(h, "meminfo");
    if (!f) return;
    uint64_t total = 0, free_kib = 0, available = 0, buffers = 0, cached = 0, reclaimable = 0;
    uint64_t swap_total = 0, swap_free = 0;
    const struct {
        const char *name;
        uint64_t *value;
    } fields[] = {{"MemTotal:", &total},         {"MemFree:", &free_kib},
                  {"MemAvailable:", &available}, {"Buffers:", &buffers},
                  {"Cached:", &cached},          {"SReclaimable:", &reclaimable},
                  {"SwapTotal:", &swap_total},   {"SwapFree:", &swap_free}};
    char line[256];
    while (fgets(line, sizeof(line), f))
        for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
            if (strncmp(line, fields[i].name, strlen(fields[i].name)) == 0)
                *fields[i].value = strtoull(line + strlen(fields[i].name), NULL, 10);
    (void)fclose(f);
    if (total == 0) return;
    const uint64_t others = free_kib + buffers + cached + reclaimable;
    const struct {
        const char *state;
        uint64_t kib;
    } states[] = {{"used", total > others ? total - others : 0},
                  {"free", free_kib},
                  {"buffers", buffers},
                  {"cached", cached + reclaimable}};
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        set_int(add(h, LEVEL, "system.memory.usage", "By", "state", states[i].state, NULL),
                states[i].kib * 1024);
        set_double(add(h, GAUGE, "system.memory.utilization", "1", "state", states[i].state, NULL),
                   (double)states[i].kib / (double)total);
    }
    set_int(add(h, LEVEL, "system.memory.limit", "By", NULL), total * 1024);
    set_int(add(h, LEVEL, "system.linux.memory.available", "By", NULL), available * 1024);
    if (swap_total == 0) return;
    set_int(add(h, LEVEL, "system.paging.usage", "By", "state", "free", NULL), swap_free * 1024);
    set_int(add(h, LEVEL, "system.paging.usage", "By", "state", "used", NULL),
            (swap_total - swap_free) * 1024);
}

static void read_load(struct tg_host_metrics *h)
{
    FILE *f = open_proc(h, "loadavg");
    if (!f) return;
    double one, five, fifteen;
    if (fscanf(f, "%lf %lf %lf", &one, &five, &fifteen) == 3) {
        set_double(add(h, GAUGE, "system.cpu.load_average.1m", "{thread}", NULL), one);
        set_double(add(h, GAUGE, "system.cpu.load_average.5m", "{thread}", NULL), five);
        set_double(add(h, GAUGE, "system.cpu.load_average.15m", "{thread}", NULL), fifteen);
    }
    (void)fclose(f);
    f = open_proc(h, "uptime");
    if (!f) return;
    double up;
    if (fscanf(f, "%lf", &up) == 1) set_double(add(h, GAUGE, "system.uptime", "s", NULL), up);
    (void)fclose(f);
}

/* Whole devices only: partitions would count the same bytes twice. Loop and RAM disks are noise. */
static bool is_disk(const char *name)
{
    char path[320];
    if (strncmp(name, "loop", 4) == 0 || strncmp(name, "ram", 3) == 0) return false;
    (void)snprintf(path, sizeof(path), "/sys/block/%.200s", name);
    return access("/sys/block", F_OK) != 0 || access(path, F_OK) == 0;
}

static void read_disks(struct tg_host_metrics *h)
{
    FILE *f = open_proc(h, "diskstats");
    if (!f) return;
    char line[512], dev[128];
    while (fgets(line, sizeof(line), f)) {
        uint64_t reads, read_sectors, writes, write_sectors, io_ms;
        if (sscanf(line,
                   "%*u %*u %127s %" SCNu64 " %*u %" SCNu64 " %*u %" SCNu64 " %*u %" SCNu64
                   " %*u %*u %" SCNu64,
                   dev, &reads, &read_sectors, &writes, &write_sectors, &io_ms) != 6 ||
            (reads == 0 && writes == 0) || !is_disk(dev))
            continue;
        set_int(add(h, COUNTER, "system.disk.io", "By", "device", dev, "direction", "read", NULL),
                read_sectors * 512);
        set_int(add(h, COUNTER, "system.disk.io", "By", "device", dev, "direction", "write", NULL),
                write_sectors * 512);
        set_int(add(h, COUNTER, "system.disk.operations", "{operation}", "device", dev, "direction",
                    "read", NULL),
                reads);
        set_int(add(h, COUNTER, "system.disk.operations", "{operation}", "device", dev, "direction",
                    "write", NULL),
                writes);
        set_double(add(h, COUNTER, "system.disk.io_time", "s", "device", dev, NULL),
                   (double)io_ms / 1000);
    }
    (void)fclose(f);
}

static void read_network(struct tg_host_metrics *h)
{
    static const struct {
        const char *name, *unit;
        unsigned receive, transmit; /* columns after the colon */
    } metrics[] = {{"system.network.io", "By", 0, 8},
                   {"system.network.packets", "{packet}", 1, 9},
                   {"system.network.errors", "{error}", 2, 10},
                   {"system.network.dropped", "{packet}", 3, 11}};
    FILE *f = open_proc(h, "net/dev");
    if (!f) return;
    char line[512];
    while (fgets(line, sizeof(line), f)) {
        char *colon = strchr(line, ':');
        if (!colon) continue;
        *colon = '\0';
        const char *dev = line + strspn(line, " ");
        uint64_t v[16];
        unsigned n = 0;
        for (char *p = colon + 1, *end; n < 16; p = end) {
            v[n] = strtoull(p, &end, 10);
            if (end == p) break;
            n++;
        }
        if (n < 12) continue;
        for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
            set_int(add(h, COUNTER, metrics[i].name, metrics[i].unit, "device", dev, "direction",
                        "receive", NULL),
                    v[metrics[i].receive]);
            set_int(add(h, COUNTER, metrics[i].name, metrics[i].unit, "device", dev, "direction",
                        "transmit", NULL),
                    v[metrics[i].transmit]);
        }
    }
    (void)fclose(f);
}

/* Undoes \040 and the like of /proc/mounts, in place. */
static void unescape(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
            *out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

static void add_filesystem(struct tg_host_metrics *h, const char *dev, const char *mount)
{
    struct statvfs v;
    if (statvfs(mount, &v) != 0 || v.f_blocks == 0) return;
    const uint64_t unit = v.f_frsize;
    const uint64_t free_bytes = (uint64_t)v.f_bavail * unit;
    const uint64_t used_bytes = ((uint64_t)v.f_blocks - v.f_bfree) * unit;
    const uint64_t reserved = ((uint64_t)v.f_bfree - v.f_bavail) * unit;
    const struct {
        const char *state;
        uint64_t bytes;
    } states[] = {{"used", used_bytes}, {"free", free_bytes}, {"reserved", reserved}};
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        set_int(add(h, LEVEL, "system.filesystem.usage", "By", "device", dev, "mountpoint", mount,
                    "state", states[i].state, NULL),
                states[i].bytes);
    set_double(add(h, GAUGE, "system.filesystem.utilization", "1", "device", dev, "mountpoint",
                   mount, "state", "used", NULL),
               (double)used_bytes / (double)(used_bytes + free_bytes));
}

/* Local ones only: a remote file system that is away would hold statvfs for minutes. */
static void read_filesystems(struct tg_host_metrics *h)
{
    static const char *const local[] = {"ext2", "ext3", "ext4",  "xfs",   "btrfs",   "zfs",
                                        "f2fs", "vfat", "exfat", "ntfs3", "overlay", "bcachefs"};
    FILE *f = open_proc(h, "self/mounts");
    if (!f) return;
    char line[2048], dev[512], mount[1024], type[64];
    char seen[MAX_MOUNTS][128]; /* a device mounted twice counts once */
    size_t n_seen = 0;
    while (fgets(line, sizeof(line), f) && n_seen < MAX_MOUNTS) {
        if (sscanf(line, "%511s %1023s %63s", dev, mount, type) != 3) continue;
        bool known = false;
        for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
            known |= strcmp(type, local[i]) == 0;
        for (size_t i = 0; i < n_seen; i++) known &= strncmp(seen[i], dev, 127) != 0;
        if (!known) continue;
        (void)snprintf(seen[n_seen++], sizeof(seen[0]), "%.127s", dev);
        unescape(dev);
        unescape(mount);
        add_filesystem(h, dev, mount);
    }
    (void)fclose(f);
}

static void read_processes(struct tg_host_metrics *h)
{
    DIR *d = opendir(h->proc);
    if (!d) return;
    uint64_t n = 0;
    const struct dirent *e;
    while ((e = readdir(d))) n += e->d_name[0] >= '1' && e->d_name[0] <= '9';
    (void)closedir(d);
    set_int(add(h, LEVEL, "system.process.count", "{process}", NULL), n);
}

static int compare_items(const void *a, const void *b)
{
    const struct tg_series_desc *x = ((const struct tg_otlp_item *)a)->desc;
    const struct tg_series_desc *y = ((const struct tg_otlp_item *)b)->desc;
    return strcmp(x->name, y->name);
}

enum tg_code tg_host_metrics_collect(struct tg_host_metrics *h, int64_t now_ns,
                                     const struct tg_otlp_item **items, uint32_t *n,
                                     struct tg_err *err)
{
    tg_arena_reset(&h->arena);
    h->n = 0;
    h->is_nomem = false;
    h->now_ns = now_ns;
    read_stat(h);
    read_memory(h);
    read_load(h);
    read_disks(h);
    read_network(h);
    read_filesystems(h);
    read_processes(h);
    if (h->is_nomem) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    if (h->n == 0)
        return tg_fail(err, TG_ERR_UNAVAILABLE, "nothing could be read from %s", h->proc);
    qsort(h->items, h->n, sizeof(*h->items), compare_items);
    *items = h->items;
    *n = h->n;
    return TG_OK;
}
