/* target_info and metadata: what the prometheus backend tells beside the points, and when. */
#include "core/backend/prometheus/prometheus_about.h"
#include "core/protocol/remote_write.h"
#include "tests/support/decode_fixture.h"
#include "tests/unit/backend/fake_server.h"

static const struct tg_backend_ops *const ops = &tg_backend_prometheus;
static const char write_path[] = "/api/v1/write";
#define MINUTE INT64_C(60000000000)

#define T(o, k, v)                                                                      \
    {                                                                                   \
        .key = (k), .value = (v), .key_len = sizeof(k) - 1, .value_len = sizeof(v) - 1, \
        .origin = TG_ORIGIN_##o                                                         \
    }
static struct tg_tag tags[] = {T(RESOURCE, "host.name", "h"), T(POINT, "path", "/"),
                               T(RESOURCE, "service.instance.id", "i1"),
                               T(RESOURCE, "service.name", "shop")};
static const struct tg_series_desc counter = {.name = "http.requests",
                                              .unit = "By/s",
                                              .name_len = 13,
                                              .unit_len = 4,
                                              .kind = TG_KIND_COUNTER,
                                              .temporality = TG_TEMPORALITY_CUMULATIVE,
                                              .n_tags = 4,
                                              .tags = tags,
                                              .help = "Bytes asked for.",
                                              .help_len = 16};
static const struct tg_series_desc sent_by_prometheus = {
    .name = "up", .unit = "", .name_len = 2, .n_tags = 1, .tags = &tags[1]};

/* The time that passes for the backend; from `start_time` on it stands still. */
static uint64_t now_ns;

static void pass_s(unsigned seconds)
{
    now_ns += seconds * UINT64_C(1000000000);
    tg_clock_set_test(INT64_C(1700000000000000000), now_ns);
}

static void start_time(void)
{
    now_ns = tg_clock_mono_ns();
    pass_s(0);
}

static void end_time(void)
{
    tg_clock_set_test(-1, 0);
}

static const struct tg_series_desc native_of_prometheus = {.name = "lat",
                                                           .unit = "",
                                                           .name_len = 3,
                                                           .kind = TG_KIND_EXP_HISTOGRAM,
                                                           .n_tags = 1,
                                                           .tags = &tags[1]};

static void must_prepare(struct fake *f, const struct tg_series_desc *d, struct tg_buf *out)
{
    struct tg_err err = {.msg = ""};
    tg_buf_init(out, 0);
    if (ops->prepare(f->backend, d, out, &err) != TG_OK) fail_msg("%s", err.msg);
}

/* One point; how many requests were made for it. */
static unsigned write_at(struct fake *f, const struct tg_buf *prepared, int64_t ts_ns)
{
    const unsigned before = f->n_requests;
    const struct tg_point p = {.ts_ns = ts_ns, .value.f64 = 5, .type = TG_VALUE_DOUBLE};
    const struct tg_delivery_point d = {&p, NULL, prepared->data, (uint32_t)prepared->len};
    fake_write(f, ops, &d, 1);
    assert_int_equal(f->write.outcome, TG_WRITE_OK);
    assert_int_equal(f->write.n_skipped, 0);
    return f->n_requests - before;
}

static void assert_body(const struct tg_buf *body, const char *want)
{
    struct tg_decode_fixture f;
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    if (tg_decode_exact(&f, tg_remote_write_decode, body->data, body->len, &err) != TG_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(tg_decode_text(&f), want);
    tg_decode_fixture_deinit(&f);
}

static bool has_metadata(const struct tg_buf *body)
{
    /* field 3, { type 1 = counter, name 2, help 4, unit 5 } */
    static const char name[] = "http_requests_bytes_per_second_total";
    uint8_t want[128];
    const int n = snprintf((char *)want, sizeof(want), "\x1a%c\x08\x01\x12%c%s\x22\x10%s\x2a\x10%s",
                           0x7f, (int)strlen(name), name, "Bytes asked for.", "bytes_per_second");
    want[1] = (uint8_t)(n - 2);
    return memmem(body->data, body->len, want, (size_t)n) != NULL;
}

static void assert_metadata(struct fake *f, const struct tg_series_desc *d, const char *want_hex)
{
    struct tg_buf prepared;
    uint8_t want[128];
    const size_t n = tg_unhex(want_hex, want);
    must_prepare(f, d, &prepared);
    assert_int_equal(write_at(f, &prepared, MINUTE), n ? 2 : 1);
    if (n) assert_int_equal(f->body.len, n);
    if (n) assert_memory_equal(f->body.data, want, n);
    tg_buf_deinit(&prepared);
}

/* What a remote write sender says of a family goes on as it came, under the name that the rules
 * leave of it. */
static void test_family_of_remote_write(void **state)
{
    (void)state;
    static struct fake f;
    struct tg_series_desc d = {.name = "rpc_sum",
                               .unit = "",
                               .name_len = 7,
                               .help = "H",
                               .help_len = 1,
                               .has_family = true,
                               .family_type = 3,
                               .family_cut = 4,
                               .family_unit = "s",
                               .family_unit_len = 1};
    fake_start(&f);
    fake_must_open(&f, ops, write_path, NULL);
    assert_metadata(&f, &d, "1a0d080312037270632201482a0173"); /* histogram rpc: H, s */
    d.name = "renamed";
    assert_metadata(&f, &d, "1a110803120772656e616d65642201482a0173");
    d.name = "neu_sum";
    assert_metadata(&f, &d, "1a0d080312036e65752201482a0173");
    d.help_len = d.family_unit_len = d.family_cut = d.family_type = 0;
    assert_metadata(&f, &d, "1a0b080012076e65755f73756d");
    d.has_family = false;
    assert_metadata(&f, &d, "");
    fake_end(&f);
}

static void test_what_is_told(void **state)
{
    (void)state;
    static struct fake f;
    struct tg_buf prepared, plain, native;
    fake_start(&f);
    fake_must_open(&f, ops, write_path, NULL);
    must_prepare(&f, &counter, &prepared);
    must_prepare(&f, &sent_by_prometheus, &plain);
    must_prepare(&f, &native_of_prometheus, &native);
    static const char points[] =
        "http_requests_bytes_per_second_total{instance=\"i1\",job=\"shop\",path=\"/\"}"
        " unknown [] d:5 @";
    char want[256];
    /* with the first point; the points in a request of their own, before */
    assert_int_equal(write_at(&f, &prepared, 100 * MINUTE), 2);
    (void)snprintf(want, sizeof(want), "%s%lld\n", points, (long long)(100 * MINUTE));
    assert_body(&f.previous, want);
    assert_body(&f.body, "target_info{host_name=\"h\",instance=\"i1\",job=\"shop\"}"
                         " unknown [] d:1 @6000000000000\n");
    assert_true(has_metadata(&f.body));
    /* then once a minute of the points' time; metadata every ten of real time */
    assert_int_equal(write_at(&f, &prepared, 101 * MINUTE - 1), 1);
    assert_int_equal(write_at(&f, &prepared, 101 * MINUTE), 2);
    assert_body(&f.body, "target_info{host_name=\"h\",instance=\"i1\",job=\"shop\"}"
                         " unknown [] d:1 @6060000000000\n");
    assert_false(has_metadata(&f.body));
    assert_int_equal(write_at(&f, &prepared, 111 * MINUTE), 2);
    assert_false(has_metadata(&f.body));
    start_time();
    pass_s(590);
    assert_int_equal(write_at(&f, &prepared, 111 * MINUTE), 1);
    pass_s(20);
    assert_int_equal(write_at(&f, &prepared, 111 * MINUTE), 2);
    assert_true(has_metadata(&f.body));
    end_time();
    /* nothing of series that are not OTLP's */
    assert_int_equal(write_at(&f, &plain, 500 * MINUTE), 1);
    assert_body(&f.body, "up{path=\"/\"} unknown [] d:5 @30000000000000\n");
    assert_int_equal(write_at(&f, &native, 600 * MINUTE), 1);
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    tg_buf_deinit(&plain);
    tg_buf_deinit(&native);
    fake_end(&f);
}

/* One target_info for all points of a resource in a delivery, at the newest time; none of points
 * that only say that a series ended. */
static void test_once_a_resource(void **state)
{
    (void)state;
    static struct fake f;
    enum { N = 3 };
    struct tg_buf prepared[N];
    struct tg_tag other[4];
    memcpy(other, tags, sizeof(tags));
    other[1].value = "x";
    other[0].value = "g";
    other[2].value = "i2";
    struct tg_series_desc descs[N] = {counter, counter, counter};
    struct tg_tag path[4];
    memcpy(path, tags, sizeof(tags));
    path[1].value = "y";
    descs[1].tags = path;  /* another series of the same resource */
    descs[2].tags = other; /* another resource */
    fake_start(&f);
    fake_must_open(&f, ops, write_path, (const char *[]){"metadata=false", NULL});
    struct tg_point points[4 * N];
    struct tg_delivery_point d[4 * N];
    for (int i = 0; i < N; i++) must_prepare(&f, &descs[i], &prepared[i]);
    for (int i = 0; i < 4 * N; i++) {
        points[i] = (struct tg_point){
            .ts_ns = (i == 4 ? 90 : 10 + i) * 1000000, .value.f64 = i, .type = TG_VALUE_DOUBLE};
        d[i] = (struct tg_delivery_point){&points[i], NULL, prepared[i % N].data,
                                          (uint32_t)prepared[i % N].len};
    }
    fake_write(&f, ops, d, 4 * N);
    assert_int_equal(f.write.outcome, TG_WRITE_OK);
    assert_int_equal(f.n_requests, 2);
    assert_body(&f.body, "target_info{host_name=\"h\",instance=\"i1\",job=\"shop\"} unknown [] d:1"
                         " @90000000\n"
                         "target_info{host_name=\"g\",instance=\"i2\",job=\"shop\"} unknown [] d:1"
                         " @21000000\n");
    ops->close(f.backend);
    fake_must_open(&f, ops, write_path, (const char *[]){"metadata=false", NULL});
    for (int i = 0; i < 4 * N; i++) {
        points[i].type = TG_VALUE_NONE;
        points[i].flags = TG_POINT_NO_VALUE;
    }
    for (int i = 0; i < N; i++) {
        tg_buf_deinit(&prepared[i]);
        must_prepare(&f, &descs[i], &prepared[i]);
    }
    for (int i = 0; i < 4 * N; i++) {
        d[i].prepared = prepared[i % N].data;
        d[i].prepared_len = (uint32_t)prepared[i % N].len;
    }
    fake_write(&f, ops, d, 4 * N);
    assert_int_equal(f.n_requests, 3);
    ops->close(f.backend);
    for (int i = 0; i < N; i++) tg_buf_deinit(&prepared[i]);
    fake_end(&f);
}

/* What the receiver finds wrong with target_info is no matter of the points. */
static void test_points_are_not_blamed(void **state)
{
    (void)state;
    static struct fake f;
    struct tg_buf prepared;
    fake_start(&f);
    fake_must_open(&f, ops, write_path, (const char *[]){"metadata=false", NULL});
    must_prepare(&f, &counter, &prepared);
    f.answer.when = "target_info";
    f.answer.then_status = 400; /* out of order: not again for a minute */
    assert_int_equal(write_at(&f, &prepared, 100 * MINUTE), 2);
    assert_int_equal(write_at(&f, &prepared, 100 * MINUTE + 1), 1);
    /* points that were not taken: nothing is told, and they come again */
    f.answer.when = NULL;
    f.answer.status = 503;
    const unsigned before = f.n_requests;
    const struct tg_point p = {.ts_ns = 200 * MINUTE, .value.f64 = 5, .type = TG_VALUE_DOUBLE};
    const struct tg_delivery_point d = {&p, NULL, prepared.data, (uint32_t)prepared.len};
    fake_write(&f, ops, &d, 1);
    assert_int_equal(f.write.outcome, TG_WRITE_RETRY);
    assert_int_equal(f.n_requests, before + 1);
    f.answer.status = 204;
    assert_int_equal(write_at(&f, &prepared, 200 * MINUTE), 2);
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

/* A receiver that cannot take target_info now is left alone with it for a minute: neither does each
 * write make a second request, nor wait for one that hangs. */
static void test_pause_after_a_failure(void **state)
{
    (void)state;
    static const int statuses[] = {503, 429, 302, 0};
    static struct fake f;
    struct tg_buf prepared;
    fake_start(&f);
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        fake_must_open(&f, ops, write_path,
                       (const char *[]){"metadata=false", "timeout=300ms", NULL});
        must_prepare(&f, &counter, &prepared);
        f.answer.when = "target_info";
        f.answer.then_status = statuses[i];
        assert_int_equal(write_at(&f, &prepared, MINUTE), 2);
        for (int k = 1; k < 4; k++) assert_int_equal(write_at(&f, &prepared, k * MINUTE), 1);
        start_time();
        pass_s(59);
        assert_int_equal(write_at(&f, &prepared, 5 * MINUTE), 1);
        f.answer.when = NULL;
        pass_s(2);
        assert_int_equal(write_at(&f, &prepared, 5 * MINUTE + 1), 2);
        assert_int_equal(write_at(&f, &prepared, 5 * MINUTE + 2), 1);
        end_time();
        ops->close(f.backend);
        tg_buf_deinit(&prepared);
    }
    fake_end(&f);
}

/* Points of two times (senders with different clocks, a backfill beside live data) do not make
 * every write a double one. */
static void test_two_clocks(void **state)
{
    (void)state;
    static struct fake f;
    struct tg_buf prepared;
    fake_start(&f);
    fake_must_open(&f, ops, write_path, NULL);
    must_prepare(&f, &counter, &prepared);
    assert_int_equal(write_at(&f, &prepared, 100 * MINUTE), 2);
    start_time();
    for (int i = 1; i < 50; i++) {
        assert_int_equal(write_at(&f, &prepared, i * MINUTE), 1);
        assert_int_equal(write_at(&f, &prepared, 100 * MINUTE + i), 1);
    }
    pass_s(61);
    assert_int_equal(write_at(&f, &prepared, 50 * MINUTE), 2); /* once a minute of real time */
    assert_int_equal(write_at(&f, &prepared, 101 * MINUTE),
                     2); /* the newer are not held up by it */
    assert_int_equal(write_at(&f, &prepared, 51 * MINUTE), 1);
    assert_int_equal(write_at(&f, &prepared, 101 * MINUTE + 1), 1);
    assert_false(has_metadata(&f.body));
    end_time();
    /* what is delivered later than it was sent has target_info all along */
    for (int i = 102; i < 110; i++) assert_int_equal(write_at(&f, &prepared, i * MINUTE), 2);
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static unsigned count(const struct tg_buf *body, const char *text)
{
    unsigned n = 0;
    const uint8_t *at = body->data;
    const uint8_t *const end = body->data + body->len;
    while ((at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
        at += strlen(text);
        n++;
    }
    return n;
}

/* More metadata than one request may hold goes in parts; what does not fit alone, never. */
static void test_parts(void **state)
{
    (void)state;
    enum { N = 100, HELP = 1000 };
    static struct fake f;
    static char help[HELP + 1];
    static char long_value[70000];
    struct tg_buf prepared[N];
    struct tg_point points[N];
    struct tg_delivery_point d[N];
    memset(help, 'h', HELP);
    memset(long_value, 'v', sizeof(long_value) - 1);
    fake_start(&f);
    fake_must_open(&f, ops, write_path, (const char *[]){"max_request_bytes=65536", NULL});
    for (int i = 0; i < N; i++) {
        char name[16];
        struct tg_tag own[4];
        struct tg_series_desc desc = counter;
        memcpy(own, tags, sizeof(tags));
        own[0].value = long_value;
        own[0].value_len = sizeof(long_value) - 1;
        desc.name_len = (uint32_t)snprintf(name, sizeof(name), "m%d", i);
        desc.name = name;
        desc.help = help;
        desc.help_len = HELP;
        desc.tags = own;
        must_prepare(&f, &desc, &prepared[i]);
        points[i] = (struct tg_point){.ts_ns = MINUTE, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
        d[i] = (struct tg_delivery_point){&points[i], NULL, prepared[i].data,
                                          (uint32_t)prepared[i].len};
    }
    unsigned n_told = 0;
    for (int i = 0; i < 2; i++) {
        fake_write(&f, ops, d, N);
        assert_int_equal(f.write.outcome, TG_WRITE_OK);
        assert_int_equal(f.n_requests, 2 * (i + 1));
        assert_in_range(f.body.len, 30000, 65536);
        assert_int_equal(count(&f.body, "target_info"), 0);
        n_told += count(&f.body, help);
    }
    assert_int_equal(n_told, N);
    fake_write(&f, ops, d, N);
    assert_int_equal(f.n_requests, 5);
    ops->close(f.backend);
    for (int i = 0; i < N; i++) tg_buf_deinit(&prepared[i]);
    fake_end(&f);
}

/* A receiver that took the points and is silent about the rest does not hold up a stop. */
static void test_cancel_while_the_rest_is_told(void **state)
{
    (void)state;
    static struct fake f;
    struct tg_buf prepared;
    fake_start(&f);
    fake_must_open(&f, ops, write_path, (const char *[]){"metadata=false", NULL});
    must_prepare(&f, &counter, &prepared);
    const struct tg_point p = {.ts_ns = MINUTE, .value.f64 = 5, .type = TG_VALUE_DOUBLE};
    const struct tg_delivery_point d = {&p, NULL, prepared.data, (uint32_t)prepared.len};
    const struct tg_delivery delivery = {.points = &d, .n_points = 1, .to_pos = 1};
    f.answer.when = "target_info";
    const uint64_t start_ms = tg_clock_mono_ms();
    ops->write(f.backend, &delivery, fake_on_write, &f);
    fake_wait(&f, &f.n_requests, 2);
    assert_int_equal(f.n_writes, 0);
    ops->cancel(f.backend);
    assert_int_equal(f.n_writes, 0);
    fake_wait(&f, &f.n_writes, 1);
    assert_int_equal(f.write.outcome, TG_WRITE_OK); /* they are there */
    assert_in_range(tg_clock_mono_ms() - start_ms, 0, 3000);
    f.answer.when = NULL; /* and it is told with the next */
    assert_int_equal(write_at(&f, &prepared, MINUTE + 1), 2);
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static void test_settings(void **state)
{
    (void)state;
    static struct fake f;
    static const struct {
        const char *settings[4];
        unsigned n_requests;
        const char *points;
    } cases[] = {
        {{"metadata=false", "resource_attributes=labels"},
         1,
         "{host_name=\"h\",instance=\"i1\",job=\"shop\",path=\"/\",service_instance_id=\"i1\","
         "service_name=\"shop\"}"},
        {{"metadata=false", "promote_resource_attributes=host.name"},
         2,
         "{host_name=\"h\",instance=\"i1\",job=\"shop\",path=\"/\"}"},
        {{"resource_attributes=labels"}, 2, "service_name"},
    };
    fake_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_buf prepared;
        fake_must_open(&f, ops, write_path, cases[i].settings);
        must_prepare(&f, &counter, &prepared);
        assert_int_equal(write_at(&f, &prepared, MINUTE), cases[i].n_requests);
        struct tg_decode_fixture text;
        struct tg_err err;
        const struct tg_buf *points = cases[i].n_requests == 2 ? &f.previous : &f.body;
        tg_decode_fixture_init(&text, NULL);
        assert_int_equal(
            tg_decode_exact(&text, tg_remote_write_decode, points->data, points->len, &err), TG_OK);
        if (!strstr(tg_decode_text(&text), cases[i].points))
            fail_msg("%zu: %s", i, tg_decode_text(&text));
        tg_decode_fixture_deinit(&text);
        tg_buf_deinit(&prepared);
        ops->close(f.backend);
    }
    fake_end(&f);
}

/* --- what is remembered --- */

static struct tg_prom_note note_of(const struct tg_buf *b)
{
    struct tg_prom_note note;
    const uint8_t *at = b->data;
    assert_true(tg_prom_note_next(NULL, &at, b->data + b->len, &note));
    assert_ptr_equal(at, b->data + b->len);
    return note;
}

/* Far more resources than are remembered: it goes on, with what is due again. */
static void test_bounds(void **state)
{
    (void)state;
    struct tg_prom_about a;
    struct tg_buf b;
    tg_prom_about_init(&a, NULL, 32 << 20);
    tg_buf_init(&b, 0);
    for (unsigned round = 0; round < 6; round++) {
        const bool is_minute_later = round % 2 == 0;
        tg_prom_about_begin(&a, UINT64_C(1000000) + round / 2 * 61000);
        for (unsigned i = 0; i < 70000; i++) {
            char text[64];
            const int n = snprintf(text, sizeof(text), "%u resource", i);
            tg_buf_reset(&b);
            assert_int_equal(tg_prom_note_put(&b, NULL, TG_PROM_NOTE_METADATA, text, (size_t)n),
                             TG_OK);
            const struct tg_prom_note note = note_of(&b);
            tg_prom_about_see(&a, &note, 5);
        }
        if (is_minute_later)
            assert_in_range(a.n_due, 60000, 70000);
        else
            assert_int_equal(a.n_due, 0); /* not with each write */
        assert_in_range(a.n_known, 60000, 65536);
        tg_prom_about_sent(&a);
    }
    tg_prom_about_deinit(&a);
    tg_buf_deinit(&b);
}

static void test_notes_are_checked(void **state)
{
    (void)state;
    struct tg_buf b;
    struct tg_prom_note note;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_prom_note_put(&b, NULL, TG_PROM_NOTE_TARGET, "abc", 3), TG_OK);
    for (size_t n = 0; n < b.len; n++) { /* no prefix is one */
        const uint8_t *at = b.data;
        assert_false(tg_prom_note_next(NULL, &at, b.data + n, &note));
        assert_ptr_equal(at, b.data);
    }
    for (unsigned form = 0; form < 256; form++) { /* and no form (remote_write_prepared.h) */
        const uint8_t byte[3 + TG_PROM_NOTE_HEAD] = {(uint8_t)form, 1 + TG_PROM_NOTE_HEAD,
                                                     TG_PROM_NOTE_HEAD << 1};
        const uint8_t *at = byte;
        assert_int_equal(tg_prom_note_next(NULL, &at, byte + sizeof(byte), &note),
                         form == TG_PROM_NOTE_TARGET || form == TG_PROM_NOTE_METADATA);
    }
    tg_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_told),
        cmocka_unit_test(test_family_of_remote_write),
        cmocka_unit_test(test_once_a_resource),
        cmocka_unit_test(test_points_are_not_blamed),
        cmocka_unit_test(test_pause_after_a_failure),
        cmocka_unit_test(test_two_clocks),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_cancel_while_the_rest_is_told),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_notes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
