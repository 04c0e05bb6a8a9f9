#include "core/codec/compress.h"

#include <libdeflate.h>
#include <pthread.h>
#include <snappy-c.h>
#include <stdbool.h>
#include <strings.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/base/mem.h"

enum {
    FIRST_GUESS_BYTES = 16 << 10,
    DEFLATE_MAX_RATIO = 1032, /* 258 bytes from two bits: the most deflate can expand */
    SNAPPY_MAX_RATIO = 22,    /* 64 bytes from a three-byte copy */
    GZIP_MIN_BYTES = 18,
};

static const struct {
    const char *name;
    enum tg_encoding encoding;
} encoding_names[] = {
    {"identity", TG_ENCODING_IDENTITY}, {"gzip", TG_ENCODING_GZIP},
    {"x-gzip", TG_ENCODING_GZIP},       {"deflate", TG_ENCODING_DEFLATE},
    {"snappy", TG_ENCODING_SNAPPY},     {"zstd", TG_ENCODING_ZSTD},
};

enum tg_code tg_encoding_parse(const char *name, size_t len, enum tg_encoding *out,
                               struct tg_err *err)
{
    if (len == 0) {
        *out = TG_ENCODING_IDENTITY;
        return TG_OK;
    }
    for (size_t i = 0; i < sizeof(encoding_names) / sizeof(encoding_names[0]); i++) {
        if (strlen(encoding_names[i].name) == len &&
            strncasecmp(encoding_names[i].name, name, len) == 0) {
            *out = encoding_names[i].encoding;
            return TG_OK;
        }
    }
    char quoted[48];
    return tg_fail(err, TG_ERR_UNSUPPORTED,
                   "content encoding %s is not supported; use gzip, deflate, snappy, zstd or "
                   "identity",
                   tg_quote(quoted, sizeof(quoted), name, len));
}

const char *tg_encoding_name(enum tg_encoding e)
{
    switch (e) {
    case TG_ENCODING_IDENTITY: return "identity";
    case TG_ENCODING_GZIP: return "gzip";
    case TG_ENCODING_ZLIB:
    case TG_ENCODING_DEFLATE: return "deflate";
    case TG_ENCODING_SNAPPY: return "snappy";
    case TG_ENCODING_ZSTD: break;
    }
    return "zstd";
}

static pthread_once_t allocator_once = PTHREAD_ONCE_INIT;
static void set_allocator(void)
{
    libdeflate_set_memory_allocator(tg_malloc, tg_free);
}

void tg_compress_init(struct tg_compress *c)
{
    *c = (struct tg_compress){.deflate_level = 1, .zstd_level = 1};
}

void tg_compress_deinit(struct tg_compress *c)
{
    libdeflate_free_decompressor(c->inflate);
    libdeflate_free_compressor(c->deflate);
    (void)ZSTD_freeCCtx(c->zstd_c);
    (void)ZSTD_freeDCtx(c->zstd_d);
    tg_compress_init(c);
}

static enum tg_code no_memory(struct tg_err *err, enum tg_encoding e)
{
    return tg_fail(err, TG_ERR_NOMEM, "out of memory for %s", tg_encoding_name(e));
}

/* What a refused reserve means, in words. */
static enum tg_code no_room(struct tg_err *err, enum tg_code code, const struct tg_buf *out)
{
    if (code == TG_ERR_TOO_LARGE)
        return tg_fail(err, code, "the output does not fit the buffer's maximum of %zu bytes",
                       out->max_bytes);
    return tg_fail(err, code, "out of memory for the output");
}

/* ---- encode ---- */

static enum tg_code encode_deflate(struct tg_compress *c, enum tg_encoding e, const void *in,
                                   size_t len, struct tg_buf *out, struct tg_err *err)
{
    (void)pthread_once(&allocator_once, set_allocator);
    if (!c->deflate) c->deflate = libdeflate_alloc_compressor(c->deflate_level);
    if (!c->deflate) return no_memory(err, e);
    const bool gzip = e == TG_ENCODING_GZIP;
    const size_t bound = gzip ? libdeflate_gzip_compress_bound(c->deflate, len)
                              : libdeflate_zlib_compress_bound(c->deflate, len);
    const enum tg_code code = tg_buf_reserve(out, bound);
    if (code != TG_OK) return no_room(err, code, out);
    uint8_t *to = out->data + out->len;
    out->len += gzip ? libdeflate_gzip_compress(c->deflate, in, len, to, bound)
                     : libdeflate_zlib_compress(c->deflate, in, len, to, bound);
    return TG_OK;
}

static enum tg_code encode_snappy(const void *in, size_t len, struct tg_buf *out,
                                  struct tg_err *err)
{
    if (len > UINT32_MAX)
        return tg_fail(err, TG_ERR_TOO_LARGE, "snappy takes at most %u bytes, got %zu", UINT32_MAX,
                       len);
    size_t n = snappy_max_compressed_length(len);
    const enum tg_code code = tg_buf_reserve(out, n);
    if (code != TG_OK) return no_room(err, code, out);
    if (snappy_compress(in, len, (char *)out->data + out->len, &n) != SNAPPY_OK)
        return tg_fail(err, TG_ERR_INVALID, "snappy refused %zu bytes", len);
    out->len += n;
    return TG_OK;
}

static enum tg_code encode_zstd(struct tg_compress *c, const void *in, size_t len,
                                struct tg_buf *out, struct tg_err *err)
{
    if (!c->zstd_c) c->zstd_c = ZSTD_createCCtx();
    if (!c->zstd_c) return no_memory(err, TG_ENCODING_ZSTD);
    const size_t bound = ZSTD_compressBound(len);
    const enum tg_code code = tg_buf_reserve(out, bound);
    if (code != TG_OK) return no_room(err, code, out);
    const size_t n =
        ZSTD_compressCCtx(c->zstd_c, out->data + out->len, bound, in, len, c->zstd_level);
    if (ZSTD_isError(n))
        return tg_fail(err,
                       ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? TG_ERR_NOMEM
                                                                            : TG_ERR_INVALID,
                       "zstd: %s", ZSTD_getErrorName(n));
    out->len += n;
    return TG_OK;
}

enum tg_code tg_compress_encode(struct tg_compress *c, enum tg_encoding e, const void *in,
                                size_t len, struct tg_buf *out, struct tg_err *err)
{
    if (!in) in = "";
    switch (e) {
    case TG_ENCODING_GZIP:
    case TG_ENCODING_ZLIB:
    case TG_ENCODING_DEFLATE: return encode_deflate(c, e, in, len, out, err);
    case TG_ENCODING_SNAPPY: return encode_snappy(in, len, out, err);
    case TG_ENCODING_ZSTD: return encode_zstd(c, in, len, out, err);
    case TG_ENCODING_IDENTITY: break;
    }
    const enum tg_code code = tg_buf_append(out, in, len);
    return code == TG_OK ? TG_OK : no_room(err, code, out);
}

/* ---- decode ---- */

/* One decode call: input left, and what may still be written. */
struct decode {
    enum tg_encoding encoding;
    const uint8_t *in;
    size_t in_len;
    size_t offset;   /* of `in` in the caller's input */
    size_t max_left; /* of the caller's max_bytes */
    size_t max_bytes;
    struct tg_buf *out;
    struct tg_err *err;
};

static enum tg_code over_limit(const struct decode *d)
{
    return tg_fail(d->err, TG_ERR_TOO_LARGE,
                   "%s body decompresses to more than the limit of %zu bytes; send smaller "
                   "requests or raise the limit",
                   tg_encoding_name(d->encoding), d->max_bytes);
}

static enum tg_code damaged(const struct decode *d, const char *what)
{
    return tg_fail_at(d->err, TG_ERR_MALFORMED, d->offset, "%s body at offset %zu: %s",
                      tg_encoding_name(d->encoding), d->offset, what);
}

/* Room for n more bytes, of which max_left is not exceeded even by the buffer's own rounding up. */
static enum tg_code reserve(const struct decode *d, size_t n)
{
    struct tg_buf *out = d->out;
    const size_t real_max = out->max_bytes;
    if (d->max_left < real_max && out->len < real_max - d->max_left)
        out->max_bytes = out->len + d->max_left;
    const enum tg_code code = tg_buf_reserve(out, n);
    out->max_bytes = real_max;
    return code == TG_OK ? TG_OK : no_room(d->err, code, out);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* a * b, or SIZE_MAX */
static size_t mul_sat(size_t a, size_t b)
{
    size_t r;
    return __builtin_mul_overflow(a, b, &r) ? SIZE_MAX : r;
}

/* What one attempt into `avail` bytes says. */
enum attempt { DONE, TOO_SMALL, BAD, NO_MEMORY };
typedef enum attempt (*attempt_fn)(void *state, const struct decode *d, uint8_t *to, size_t avail,
                                   size_t *in_used, size_t *n_out, const char **why);

/* Tries with room for `guess` bytes, then twice that and so on up to `most` and the limit. Advances
 * the input. */
static enum tg_code decode_growing(struct decode *d, attempt_fn fn, void *state, size_t guess,
                                   size_t most)
{
    const size_t room = d->out->max_bytes - d->out->len;
    const size_t cap = min_size(min_size(d->max_left, most), room);
    guess = min_size(guess, cap);
    for (;;) {
        TG_TRY(reserve(d, guess));
        /* what is allocated anyway may as well be used, within the limit */
        const size_t avail = min_size(d->out->cap - d->out->len, cap);
        uint8_t none;
        uint8_t *to = d->out->data ? d->out->data + d->out->len : &none;
        size_t in_used = 0;
        size_t n_out = 0;
        const char *why = "damaged or cut short";
        switch (fn(state, d, to, avail, &in_used, &n_out, &why)) {
        case DONE:
            d->out->len += n_out;
            d->max_left -= n_out;
            d->in += in_used;
            d->in_len -= in_used;
            d->offset += in_used;
            return TG_OK;
        case TOO_SMALL:
            if (avail == cap)
                return cap == d->max_left ? over_limit(d)
                       : cap == room      ? no_room(d->err, TG_ERR_TOO_LARGE, d->out)
                                          : damaged(d, why);
            guess = min_size(mul_sat(avail, 2) | 1, cap);
            break;
        case BAD: return damaged(d, why);
        case NO_MEMORY: return no_memory(d->err, d->encoding);
        }
    }
}

static enum attempt attempt_deflate(void *state, const struct decode *d, uint8_t *to, size_t avail,
                                    size_t *in_used, size_t *n_out, const char **why)
{
    struct libdeflate_decompressor *z = state;
    enum libdeflate_result r;
    switch (d->encoding) {
    case TG_ENCODING_GZIP:
        r = libdeflate_gzip_decompress_ex(z, d->in, d->in_len, to, avail, in_used, n_out);
        break;
    case TG_ENCODING_ZLIB:
        r = libdeflate_zlib_decompress_ex(z, d->in, d->in_len, to, avail, in_used, n_out);
        break;
    default:
        r = libdeflate_deflate_decompress_ex(z, d->in, d->in_len, to, avail, in_used, n_out);
        break;
    }
    *why = "damaged, cut short or with a wrong checksum";
    return r == LIBDEFLATE_SUCCESS ? DONE : r == LIBDEFLATE_INSUFFICIENT_SPACE ? TOO_SMALL : BAD;
}

static enum tg_code decode_deflate(struct tg_compress *c, struct decode *d)
{
    (void)pthread_once(&allocator_once, set_allocator);
    if (!c->inflate) c->inflate = libdeflate_alloc_decompressor();
    if (!c->inflate) return no_memory(d->err, d->encoding);
    if (d->encoding == TG_ENCODING_GZIP) {
        do {
            if (d->in_len < GZIP_MIN_BYTES || d->in[0] != 0x1f || d->in[1] != 0x8b)
                return damaged(d, d->offset ? "bytes after the end that are no gzip member"
                                            : "no gzip header");
            /* The last four bytes are the size of the last member, modulo 2^32. */
            uint32_t isize;
            memcpy(&isize, d->in + d->in_len - 4, 4);
            const size_t most = mul_sat(d->in_len, DEFLATE_MAX_RATIO);
            TG_TRY(decode_growing(d, attempt_deflate, c->inflate,
                                  isize <= most ? isize : FIRST_GUESS_BYTES, most));
        } while (d->in_len);
        return TG_OK;
    }
    /* RFC 1950: method 8, window at most 32 KiB, header a multiple of 31. Raw deflate that looks
     * the same by chance fails later and is refused: no sender of ours does it. */
    const bool is_zlib = d->in_len >= 2 && (d->in[0] & 0x0f) == 8 && d->in[0] >> 4 <= 7 &&
                         (d->in[0] << 8 | d->in[1]) % 31 == 0;
    const enum tg_encoding asked = d->encoding;
    d->encoding = is_zlib || asked == TG_ENCODING_ZLIB ? TG_ENCODING_ZLIB : TG_ENCODING_DEFLATE;
    const size_t guess = min_size(mul_sat(d->in_len, 4), SIZE_MAX - FIRST_GUESS_BYTES);
    TG_TRY(decode_growing(d, attempt_deflate, c->inflate, guess + FIRST_GUESS_BYTES,
                          mul_sat(d->in_len, DEFLATE_MAX_RATIO)));
    return d->in_len ? damaged(d, "bytes after the end") : TG_OK;
}

static enum tg_code decode_snappy(struct decode *d)
{
    size_t n = 0;
    if (snappy_uncompressed_length((const char *)d->in, d->in_len, &n) != SNAPPY_OK)
        return damaged(d, "no length at the beginning (framed snappy is not the block format)");
    if (n > d->max_left) return over_limit(d);
    if (n > mul_sat(d->in_len, SNAPPY_MAX_RATIO))
        return damaged(d, "claims more bytes than its length can hold");
    TG_TRY(reserve(d, n));
    char none;
    char *to = d->out->data ? (char *)d->out->data + d->out->len : &none;
    if (snappy_uncompress((const char *)d->in, d->in_len, to, &n) != SNAPPY_OK)
        return damaged(d, "damaged or cut short");
    d->out->len += n;
    return TG_OK;
}

static enum attempt attempt_zstd(void *state, const struct decode *d, uint8_t *to, size_t avail,
                                 size_t *in_used, size_t *n_out, const char **why)
{
    const size_t n = ZSTD_decompressDCtx(state, to, avail, d->in, d->in_len);
    if (ZSTD_isError(n)) {
        *why = ZSTD_getErrorName(n);
        const ZSTD_ErrorCode code = ZSTD_getErrorCode(n);
        return code == ZSTD_error_dstSize_tooSmall    ? TOO_SMALL
               : code == ZSTD_error_memory_allocation ? NO_MEMORY
                                                      : BAD;
    }
    *in_used = d->in_len;
    *n_out = n;
    return DONE;
}

static enum tg_code decode_zstd(struct tg_compress *c, struct decode *d)
{
    if (!c->zstd_d) c->zstd_d = ZSTD_createDCtx();
    if (!c->zstd_d) return no_memory(d->err, d->encoding);
    if (d->in_len == 0) return damaged(d, "empty");
    const unsigned long long size = ZSTD_getFrameContentSize(d->in, d->in_len);
    size_t guess = min_size(mul_sat(d->in_len, 4), SIZE_MAX - FIRST_GUESS_BYTES);
    guess += FIRST_GUESS_BYTES;
    /* A small lie costs a second try; a big one is bounded by the ratio that real data has. */
    if (size < mul_sat(d->in_len, 1000)) guess = (size_t)size;
    return decode_growing(d, attempt_zstd, c->zstd_d, guess, SIZE_MAX);
}

enum tg_code tg_compress_decode(struct tg_compress *c, enum tg_encoding e, const void *in,
                                size_t len, size_t max_bytes, struct tg_buf *out,
                                struct tg_err *err)
{
    if (!in) in = "";
    struct decode d = {e, in, len, 0, max_bytes, max_bytes, out, err};
    const size_t before = out->len;
    enum tg_code code = TG_OK;
    switch (e) {
    case TG_ENCODING_GZIP:
    case TG_ENCODING_ZLIB:
    case TG_ENCODING_DEFLATE: code = decode_deflate(c, &d); break;
    case TG_ENCODING_SNAPPY: code = decode_snappy(&d); break;
    case TG_ENCODING_ZSTD: code = decode_zstd(c, &d); break;
    case TG_ENCODING_IDENTITY:
        if (len > max_bytes) {
            code = tg_fail(err, TG_ERR_TOO_LARGE,
                           "body of %zu bytes is over the limit of %zu bytes; send smaller "
                           "requests or raise the limit",
                           len, max_bytes);
            break;
        }
        code = reserve(&d, len);
        if (code == TG_OK && len) tg_buf_put(out, in, len);
        break;
    }
    if (code != TG_OK) out->len = before;
    return code;
}
