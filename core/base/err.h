/* err.h: error codes grouped by what the caller does about them, and a detail record that needs no
 * memory.
 *
 * Every function that can fail returns `enum tg_code` and takes an optional `struct tg_err *` (NULL
 * is accepted everywhere) for the detail. Codes fall into classes; one table in err.c maps a class
 * to the HTTP status, the gRPC status and the counter label, so no receiver invents its own
 * mapping.
 *
 * Threading: no shared state.
 */
#ifndef TG_BASE_ERR_H
#define TG_BASE_ERR_H

#include <stddef.h>
#include <stdint.h>

enum tg_code {
    TG_OK = 0,

    /* input: the sender sent something wrong; retrying the same bytes is useless. */
    TG_ERR_MALFORMED = 100, /* the bytes do not follow their format */
    TG_ERR_INVALID,         /* well formed, but not acceptable (bad label name, bad option value) */
    TG_ERR_UNSUPPORTED,     /* a known feature that we do not take */
    TG_ERR_NOT_FOUND,       /* what was named does not exist */
    TG_ERR_UNAUTHORIZED,    /* credentials missing or wrong */

    /* too large: over a limit that waiting does not change. */
    TG_ERR_TOO_LARGE = 200,

    /* full: come back later. */
    TG_ERR_FULL = 300, /* queue, log or table at its limit */
    TG_ERR_NOMEM,      /* the allocator refused */
    TG_ERR_TIMEOUT,    /* a deadline passed */
    TG_ERR_FILE_LIMIT, /* this file may not grow: RLIMIT_FSIZE, or its file system's bound */

    /* transient: the other side or the machine; retry with backoff. */
    TG_ERR_UNAVAILABLE = 400,
    TG_ERR_IO,       /* a system call failed; errno is in the message */
    TG_ERR_CANCELED, /* shutdown or generation change */

    /* permanent: the other side refuses these points permanently. */
    TG_ERR_REFUSED = 500,
    TG_ERR_CORRUPT, /* stored bytes fail their checksum or structure */

    /* fatal: cannot go on (configuration at start). */
    TG_ERR_FATAL = 600,
};

enum tg_class {
    TG_CLASS_OK,
    TG_CLASS_INPUT,
    TG_CLASS_TOO_LARGE,
    TG_CLASS_FULL,
    TG_CLASS_TRANSIENT,
    TG_CLASS_PERMANENT,
    TG_CLASS_FATAL,
};

/* Detail of a failure. `offset` is the byte offset into the input, or TG_NO_OFFSET. */
#define TG_NO_OFFSET ((uint64_t)-1)
struct tg_err {
    enum tg_code code;
    uint64_t offset;
    char msg[256];
};

#define TG_MUST_CHECK __attribute__((warn_unused_result))

/* Fills *err (NULL accepted) and returns `code`, so that a failure reads `return tg_fail(err,
 * TG_ERR_X, "...")`. The message is cut to fit. `tg_fail_at` also records the input offset. */
enum tg_code tg_fail(struct tg_err *err, enum tg_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
enum tg_code tg_fail_at(struct tg_err *err, enum tg_code code, uint64_t offset, const char *fmt,
                        ...) __attribute__((format(printf, 4, 5)));

/* What a path names when it is no regular file: beside the errno values of Linux (below 4096), so
 * that a message can say what is in the way. A folder is EISDIR. */
enum {
    TG_E_FIFO = 5001, /* a pipe with a name */
    TG_E_SOCKET,
    TG_E_DEVICE,
};
/* The words for an errno value or a TG_E_ one; may use buf. */
const char *tg_errno_text(int errnum, char *buf, size_t buf_cap);

/* As tg_fail with TG_ERR_IO (or TG_ERR_FULL for ENOSPC and EDQUOT, TG_ERR_FILE_LIMIT for EFBIG,
 * TG_ERR_NOMEM for ENOMEM): "what: why". `errnum` is an errno
 * value or a TG_E_ one. */
enum tg_code tg_fail_errno(struct tg_err *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#if defined(__clang_analyzer__) && !defined(TG_ERR_C)
/* The static analyzer does not look into functions with variable arguments, so it would follow
 * paths on which tg_fail returns TG_OK. It sees what they return here instead. */
static inline void tg_fail_ignore(const char *fmt, ...)
{
    (void)fmt;
}
#define tg_fail(err, code, ...) ((void)(err), tg_fail_ignore(__VA_ARGS__), (code))
#define tg_fail_at(err, code, offset, ...) \
    ((void)(err), (void)(offset), tg_fail_ignore(__VA_ARGS__), (code))
#define tg_fail_errno(err, errnum, ...) \
    ((void)(err), (void)(errnum), tg_fail_ignore(__VA_ARGS__), TG_ERR_IO)
#endif

enum tg_class tg_code_class(enum tg_code code);
int tg_code_http_status(enum tg_code code); /* 200, 400, 401, 404, 413, 415, 503, 500 */
int tg_code_grpc_status(enum tg_code code); /* google.rpc.Code numbers */
const char *tg_class_name(
    enum tg_class cls); /* "input", "too_large", ...: the label used in /metrics */

/* Writes a shortened, printable, double-quoted form of `len` bytes into out (always NUL-terminated)
 * and returns out. For quoting input in messages. `out_cap` >= 8. */
char *tg_quote(char *out, size_t out_cap, const void *bytes, size_t len);

/* Forwards a failure. */
#define TG_TRY(expr)                          \
    do {                                      \
        const enum tg_code tg_try_ = (expr);  \
        if (tg_try_ != TG_OK) return tg_try_; \
    } while (0)

#endif
