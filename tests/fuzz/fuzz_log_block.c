/* Point blocks. First byte even: the rest is a block's payload, decoded as it is. Odd: the rest
 * makes points; encoded and decoded they are equal, over several blocks and with some of them lost.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/log/block.h"
#include "tests/support/log_fixture.h"

enum { N_SERIES = 64, MAX_POINTS = 600 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lf fixture;
static struct tg_block_encoder enc;
static struct tg_block_decoder dec;
static struct tg_block_entry entries[N_SERIES];

static void check(bool ok)
{
    if (!ok) abort();
}

static void start(void)
{
    if (!fixture.table) {
        tg_hash_seed(1);
        lf_init(&fixture, N_SERIES, 1);
        check(tg_block_encoder_init(&enc) == TG_OK && tg_block_decoder_init(&dec) == TG_OK);
    }
    tg_block_encoder_reset(&enc);
    tg_block_decoder_reset(&dec);
    memset(entries, 0, sizeof(entries));
    for (uint32_t i = 0; i < N_SERIES; i++) {
        uint32_t ref;
        check(tg_block_encoder_add(&enc, &ref) == TG_OK && ref == i);
        entries[i].series = i % 16 == 15 ? NULL : fixture.series[i];
        entries[i].chain.last_block = TG_CHAIN_NO_BLOCK;
    }
}

static void decode_raw(const uint8_t *data, size_t size)
{
    struct tg_batch batch;
    struct tg_block_info info;
    uint32_t lost;
    tg_batch_init(&batch, NULL, 0, 64 << 20);
    /* twice: the second time against the chains that the first left */
    for (unsigned i = 0; i < 2; i++) {
        const enum tg_code code =
            tg_block_decode(&dec, entries, N_SERIES, data, size, &batch, &info, &lost, NULL);
        if (code == TG_OK) check(info.n_points == batch.n_points + lost);
        if (code == TG_ERR_CORRUPT) check(batch.n_points == 0);
        dec.next_min = 0;
        tg_batch_reset(&batch);
    }
    const enum tg_code code =
        tg_block_decode(&dec, entries, N_SERIES, data, size, NULL, &info, &lost, NULL);
    check(code == TG_OK || code == TG_ERR_CORRUPT);
    tg_batch_deinit(&batch);
}

static uint64_t take(const uint8_t **p, const uint8_t *end, unsigned n)
{
    uint64_t v = 0;
    while (n-- && *p < end) v = v << 8 | *(*p)++;
    return v;
}

static void round_trip(const uint8_t *p, const uint8_t *end)
{
    uint64_t number = 0;
    bool broken = false;
    while (p < end) {
        const unsigned head = *p++;
        struct tg_batch in, out;
        struct tg_buf buf;
        uint32_t refs[MAX_POINTS];
        tg_batch_init(&in, NULL, 0, 0);
        tg_batch_init(&out, NULL, 0, 0);
        tg_buf_init(&buf, 0);
        check(tg_batch_reserve(&in, MAX_POINTS) == TG_OK);
        uint32_t ref = head;
        int64_t ts = 0, start_ns = 0;
        while (p < end && in.n_points < MAX_POINTS) {
            const unsigned ctl = *p++;
            if (ctl == 0xff) break;
            ref = ctl & 1 ? ref + 1 : (uint32_t)take(&p, end, 1);
            if (ctl & 2) ts += (int64_t)take(&p, end, 1 + (ctl & 4));
            if (ctl & 8) start_ns = (int64_t)take(&p, end, 8);
            struct tg_point *pt = tg_batch_push(&in);
            memset(pt, 0, sizeof(*pt));
            refs[in.n_points - 1] = ref % N_SERIES;
            pt->series = fixture.series[ref % N_SERIES];
            pt->ts_ns = ts;
            pt->start_ns = start_ns;
            pt->routed = head & 32;
            if (pt->routed) pt->targets = ctl & 64 ? UINT32_MAX >> ref % 32 : 5;
            pt->type = (uint8_t)((ctl >> 4) % 5);
            pt->value.u64 = take(&p, end, ctl & 128 ? 8 : 2);
            if (pt->type == TG_VALUE_DOUBLE && !(ctl & 128))
                pt->value.f64 = (double)(int16_t)pt->value.u64 / 100;
            if (pt->type == TG_VALUE_BOOL) pt->value.u64 &= 1;
            if (pt->type == TG_VALUE_NONE) pt->value.u64 = 0;
            if (head & 128 && in.n_points % 7 == 0) {
                fixture.rng = pt->value.u64 | 1;
                lf_mixed(&fixture, &in, 1, ts);
                for (uint32_t k = 0; k < N_SERIES; k++)
                    if (fixture.series[k] == in.points[in.n_points - 1].series)
                        refs[in.n_points - 1] = k;
                if (in.n_points + 2 > MAX_POINTS) break;
            }
        }
        if (in.n_points) {
            uint32_t used, lost;
            struct tg_block_info info;
            check(tg_block_encode(&enc, in.points, refs, in.n_points, number, &buf, &used, NULL) ==
                  TG_OK);
            check(used == in.n_points);
            number += used;
            if (head & 64) { /* never arrives */
                broken = true;
            } else {
                check(tg_block_decode(&dec, entries, N_SERIES, buf.data, buf.len, &out, &info,
                                      &lost, NULL) == TG_OK);
                check(out.n_points + lost == in.n_points);
                uint32_t k = 0;
                for (uint32_t i = 0; i < in.n_points && k < out.n_points; i++)
                    k += lf_equal(&in.points[i], &out.points[k]);
                check(k == out.n_points);
                uint32_t unknown = 0;
                for (uint32_t i = 0; i < in.n_points; i++) unknown += refs[i] % 16 == 15;
                check(broken ? lost >= unknown : lost == unknown);
            }
        }
        tg_batch_deinit(&in);
        tg_batch_deinit(&out);
        tg_buf_deinit(&buf);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    start();
    if (data[0] & 1)
        round_trip(data + 1, data + size);
    else
        decode_raw(data + 1, size - 1);
    return 0;
}
