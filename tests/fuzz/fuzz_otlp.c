/* OTLP metrics: decode; the same again, all from memory of raw keys; encode and decode once more;
 * and everything under tight limits. */
#include <stdlib.h>

#include "core/protocol/otlp.h"
#include "tests/support/decode_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) abort();
}

/* What OTLP must have and we may lack: a temporality. The encoder says cumulative then. */
static bool is_lossless(const struct tg_otlp_item *items, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (items[i].desc->kind != TG_KIND_GAUGE && items[i].desc->kind != TG_KIND_SUMMARY &&
            items[i].desc->temporality == TG_TEMPORALITY_NONE)
            return false;
    return true;
}

static void check_round_trip(struct tg_decode_fixture *f)
{
    struct tg_decode_fixture g;
    struct tg_buf body;
    struct tg_err err;
    const uint32_t n = f->batch.n_points;
    struct tg_otlp_item *items = tg_decode_items(f);
    if (!items) return; /* more than the scratch arena holds */
    tg_decode_fixture_init(&g, NULL);
    tg_buf_init(&body, 0);
    check(tg_otlp_encode_metrics(items, n, &body, &err) == TG_OK);
    check(tg_otlp_decode_metrics(body.data, body.len, &g.d, &err) == TG_OK);
    check(g.d.n_rejected == 0 && g.batch.n_points == n);
    for (uint32_t i = 0; i < n; i++) check(tg_point_equal(&f->batch.points[i], &g.batch.points[i]));
    if (is_lossless(items, n)) check(strcmp(tg_decode_text(f), tg_decode_text(&g)) == 0);
    tg_buf_deinit(&body);
    tg_decode_fixture_deinit(&g);
}

static void check_limits(const uint8_t *data, size_t size)
{
    static const struct tg_table_config config = {
        .max_series = 2,
        .max_raw_keys = 3,
        .limits = {.max_tags = 3, .max_name_bytes = 8, .max_key_bytes = 8, .max_value_bytes = 8}};
    struct tg_decode_fixture f;
    struct tg_err err;
    tg_decode_fixture_init(&f, &config);
    tg_batch_deinit(&f.batch);
    tg_batch_init(&f.batch, tg_table_guard(f.table), 5, 2048);
    tg_arena_deinit(&f.scratch);
    tg_arena_init(&f.scratch, 2048);
    const enum tg_code code = tg_otlp_decode_metrics(data, size, &f.d, &err);
    check(code == TG_OK || f.batch.n_points == 0);
    check(f.batch.n_points <= 5 && tg_table_stats(f.table).n_series <= 2);
    check(f.scratch.used_bytes <= 2048 && f.batch.arena.used_bytes <= 2048);
    tg_decode_fixture_deinit(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tg_decode_fixture f;
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    const enum tg_code code = tg_otlp_decode_metrics(data, size, &f.d, &err);
    check(f.d.n_accepted == f.batch.n_points);
    if (code == TG_OK) {
        const uint64_t n_rejected = f.d.n_rejected;
        const uint32_t n = f.batch.n_points;
        check(tg_otlp_decode_metrics(data, size, &f.d, &err) == TG_OK);
        check(f.batch.n_points == 2 * n && f.d.n_rejected == 2 * n_rejected);
        for (uint32_t i = 0; i < n; i++) {
            check(f.batch.points[i].series == f.batch.points[n + i].series);
            check(tg_point_equal(&f.batch.points[i], &f.batch.points[n + i]));
        }
        if (n) check_round_trip(&f);
    } else {
        check(f.batch.n_points == 0 && err.msg[0] != '\0' && err.code == code);
        check(err.offset == TG_NO_OFFSET || err.offset <= size);
    }
    tg_decode_fixture_deinit(&f);
    check_limits(data, size);
    return 0;
}
