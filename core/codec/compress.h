/* compress.h: the compressions that arrive over HTTP, whole buffer to whole buffer, bounded.
 *
 * One context per thread holds the libraries' states; they are made at first use and kept, so that
 * after warm-up a call allocates only what the output buffer lacks. Every function appends to `out`
 * and leaves it as it was when it fails.
 *
 * Bound: decoding writes at most `max_bytes` and never makes `out` grow by more than that, whatever
 * the input claims about its size. Sizes found in the input are hints: used when plausible for the
 * compressed length, never trusted. Both are proven by trying with a growing buffer.
 *
 * Formats: gzip RFC 1952 (several members in a row are one text), zlib RFC 1950, deflate RFC 1951,
 * snappy block format (format_description.txt of google/snappy), zstd RFC 8878 (several frames in
 * a row).
 *
 * Memory: libdeflate allocates through mem.h. zstd and snappy use malloc: they offer no allocator
 * in their stable API; both hold fixed-size state only, since no windows are kept.
 *
 * Threading: one thread at a time per context.
 */
#ifndef TG_CODEC_COMPRESS_H
#define TG_CODEC_COMPRESS_H

#include "core/base/buf.h"
#include "core/base/err.h"

enum tg_encoding {
    TG_ENCODING_IDENTITY,
    TG_ENCODING_GZIP,
    TG_ENCODING_ZLIB,
    TG_ENCODING_DEFLATE, /* HTTP's "deflate": zlib; raw deflate is taken too, since senders err */
    TG_ENCODING_SNAPPY,  /* block format, as in remote write */
    TG_ENCODING_ZSTD,
};

/* The name in Content-Encoding, of any case: "", "identity", "gzip", "x-gzip", "deflate", "snappy",
 * "zstd". TG_ERR_UNSUPPORTED lists these. */
TG_MUST_CHECK enum tg_code tg_encoding_parse(const char *name, size_t len, enum tg_encoding *out,
                                             struct tg_err *err);
const char *tg_encoding_name(enum tg_encoding e); /* zlib and deflate are both "deflate" */

struct libdeflate_decompressor;
struct libdeflate_compressor;
struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;
struct tg_compress {
    struct libdeflate_decompressor *inflate;
    struct libdeflate_compressor *deflate;
    struct ZSTD_CCtx_s *zstd_c;
    struct ZSTD_DCtx_s *zstd_d;
    int deflate_level; /* 1..12; change before the first encode. Default 1: line speed */
    int zstd_level;    /* default 1 */
};

void tg_compress_init(struct tg_compress *c);
void tg_compress_deinit(struct tg_compress *c); /* may be initialised again */

/* Appends the compressed form of `len` bytes. DEFLATE writes zlib. TG_ERR_NOMEM; TG_ERR_TOO_LARGE
 * when it does not fit out->max_bytes, or the input is over the format's 4 GiB (snappy). */
TG_MUST_CHECK enum tg_code tg_compress_encode(struct tg_compress *c, enum tg_encoding e,
                                              const void *in, size_t len, struct tg_buf *out,
                                              struct tg_err *err);

/* Appends the decompressed form of all `len` bytes. TG_ERR_MALFORMED: not the format, damaged, cut
 * short, or bytes after its end. TG_ERR_TOO_LARGE: more than max_bytes (named in the message), or
 * more than `out` may hold. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_compress_decode(struct tg_compress *c, enum tg_encoding e,
                                              const void *in, size_t len, size_t max_bytes,
                                              struct tg_buf *out, struct tg_err *err);

#endif
