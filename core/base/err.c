#define TG_ERR_C
#include "core/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/utf8.h"

static void fill(struct tg_err *err, enum tg_code code, uint64_t offset, const char *fmt,
                 va_list ap) __attribute__((format(printf, 4, 0)));

static void fill(struct tg_err *err, enum tg_code code, uint64_t offset, const char *fmt,
                 va_list ap)
{
    err->code = code;
    err->offset = offset;
    (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
}

enum tg_code tg_fail(struct tg_err *err, enum tg_code code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, TG_NO_OFFSET, fmt, ap);
        va_end(ap);
    }
    return code;
}

enum tg_code tg_fail_at(struct tg_err *err, enum tg_code code, uint64_t offset, const char *fmt,
                        ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, offset, fmt, ap);
        va_end(ap);
    }
    return code;
}

enum tg_code tg_fail_errno(struct tg_err *err, int errnum, const char *fmt, ...)
{
    const enum tg_code code = errnum == ENOSPC || errnum == EDQUOT ? TG_ERR_FULL
                              : errnum == EFBIG                    ? TG_ERR_FILE_LIMIT
                              : errnum == ENOMEM                   ? TG_ERR_NOMEM
                                                                   : TG_ERR_IO;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, TG_NO_OFFSET, fmt, ap);
        va_end(ap);
        const size_t n = strlen(err->msg);
        char buf[96];
        (void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s",
                       tg_errno_text(errnum, buf, sizeof(buf)));
    }
    return code;
}

const char *tg_errno_text(int errnum, char *buf, size_t buf_cap)
{
    switch (errnum) {
    case TG_E_FIFO: return "it is a FIFO, not a regular file";
    case TG_E_SOCKET: return "it is a socket, not a regular file";
    case TG_E_DEVICE: return "it is a device, not a regular file";
    case EFBIG: return "File too large (ulimit -f, or the most that the file system can hold)";
    default: return strerror_r(errnum, buf, buf_cap);
    }
}

enum tg_class tg_code_class(enum tg_code code)
{
    switch ((unsigned)code / 100U) {
    case 0: return TG_CLASS_OK;
    case 1: return TG_CLASS_INPUT;
    case 2: return TG_CLASS_TOO_LARGE;
    case 3: return TG_CLASS_FULL;
    case 4: return TG_CLASS_TRANSIENT;
    case 5: return TG_CLASS_PERMANENT;
    default: return TG_CLASS_FATAL;
    }
}

int tg_code_http_status(enum tg_code code)
{
    switch (code) {
    case TG_ERR_NOT_FOUND: return 404;
    case TG_ERR_UNAUTHORIZED: return 401;
    case TG_ERR_UNSUPPORTED: return 415;
    default: break;
    }
    switch (tg_code_class(code)) {
    case TG_CLASS_OK: return 200;
    case TG_CLASS_INPUT: return 400;
    case TG_CLASS_TOO_LARGE: return 413;
    case TG_CLASS_FULL:
    case TG_CLASS_TRANSIENT: return 503;
    case TG_CLASS_PERMANENT:
    case TG_CLASS_FATAL: break;
    }
    return 500;
}

int tg_code_grpc_status(enum tg_code code)
{
    switch (code) {
    case TG_ERR_NOT_FOUND: return 5;
    case TG_ERR_UNAUTHORIZED: return 16;
    case TG_ERR_UNSUPPORTED: return 12;
    default: break;
    }
    switch (tg_code_class(code)) {
    case TG_CLASS_OK: return 0;
    case TG_CLASS_INPUT: return 3;
    case TG_CLASS_TOO_LARGE: return 8;
    case TG_CLASS_FULL:
    case TG_CLASS_TRANSIENT: return 14;
    case TG_CLASS_PERMANENT:
    case TG_CLASS_FATAL: break;
    }
    return 13;
}

const char *tg_class_name(enum tg_class cls)
{
    switch (cls) {
    case TG_CLASS_OK: return "ok";
    case TG_CLASS_INPUT: return "input";
    case TG_CLASS_TOO_LARGE: return "too_large";
    case TG_CLASS_FULL: return "full";
    case TG_CLASS_TRANSIENT: return "transient";
    case TG_CLASS_PERMANENT: return "permanent";
    case TG_CLASS_FATAL: break;
    }
    return "fatal";
}

/* Length of a sequence that is shown as it is: not of controls (U+0080 to U+009F), nor of what
 * breaks lines or turns the direction of the text around it. 0 = none. */
static size_t shown_len(const unsigned char *p, size_t left)
{
    const size_t n = tg_utf8_len(p, left);
    if (n == 2 && p[0] == 0xC2 && p[1] < 0xA0) return 0;
    if (n == 3 && p[0] == 0xE2 && p[1] == 0x80 && (p[2] >= 0xA8 && p[2] <= 0xAE)) return 0;
    if (n == 3 && p[0] == 0xE2 && p[1] == 0x81 && (p[2] >= 0xA6 && p[2] <= 0xA9)) return 0;
    return n;
}

char *tg_quote(char *out, size_t out_cap, const void *bytes, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *in = bytes;
    size_t o = 0;
    size_t i = 0;
    out[o++] = '"';
    /* 7 = the longest escape (4) + closing quote, or "..." + quote + NUL */
    for (; i < len && o + 9 <= out_cap; i++) {
        const unsigned char c = in[i];
        if (c == '"' || c == '\\') {
            out[o++] = '\\';
            out[o++] = (char)c;
        } else if (c == '\n') {
            out[o++] = '\\';
            out[o++] = 'n';
        } else if (c >= 0x80 && shown_len(in + i, len - i)) {
            const size_t n = shown_len(in + i, len - i);
            memcpy(out + o, in + i, n);
            o += n;
            i += n - 1;
        } else if (c < 0x20 || c >= 0x7f) {
            out[o++] = '\\';
            out[o++] = 'x';
            out[o++] = hex[c >> 4];
            out[o++] = hex[c & 15];
        } else {
            out[o++] = (char)c;
        }
    }
    if (i < len && o + 5 <= out_cap) {
        memcpy(out + o, "...", 3);
        o += 3;
    }
    out[o++] = '"';
    out[o] = '\0';
    return out;
}
