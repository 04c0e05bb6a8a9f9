/* The Parquet backend on a file system in memory: folders by date, exactly once over failures,
 * restarts and rewinds, queries, retention. */
#include "tests/unit/backend/parquet_bench.h"

/* ---- names ---- */

static void test_day_names(void **state)
{
    (void)state;
    static const struct {
        int64_t ts;
        const char *want;
    } cases[] = {
        {0, "date=1970-01-01"},          {-1, "date=1969-12-31"},
        {DAY_NS - 1, "date=1970-01-01"}, {DAY_NS, "date=1970-01-02"},
        {T0, "date=2023-11-14"},         {INT64_C(951782400000000000), "date=2000-02-29"},
        {INT64_MAX, "date=2262-04-11"},  {INT64_MIN, "date=1677-09-21"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char name[24];
        int32_t day;
        tg_parquet_day_name(tg_parquet_day(cases[i].ts), name);
        assert_string_equal(name, cases[i].want);
        assert_true(tg_parquet_day_parse(name, &day));
        assert_int_equal(day, tg_parquet_day(cases[i].ts));
    }
    for (int32_t d = tg_parquet_day(INT64_MIN); d <= tg_parquet_day(INT64_MAX); d++) {
        char name[24];
        int32_t day;
        tg_parquet_day_name(d, name);
        assert_true(tg_parquet_day_parse(name, &day) && day == d);
    }
    static const char *const bad[] = {"",           "date=",           "date=2023-1-1",
                                      "date=x",     "date=2023-02-29", "date=2023-13-01",
                                      "2023-01-01", "date=2023-01-00", "date=2023-01-011"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        int32_t day;
        assert_false(tg_parquet_day_parse(bad[i], &day));
    }
}

static void test_file_names(void **state)
{
    (void)state;
    static const struct tg_parquet_name good[] = {
        {0, 1, 0},
        {7, UINT64_MAX, 0},
        {UINT64_MAX, UINT64_MAX, UINT32_MAX},
        {5, 6, 2},
        {5, 6, 0, "0123456789abcdef0123456789abcdef"},
        {5, 6, 2, "00000000000000000000000000000001"},
        {UINT64_MAX, UINT64_MAX, UINT32_MAX, "11111111111111111111111111111111"}};
    static const char *const bad[] = {
        "",
        "x.parquet",
        "00000000000000000000-00000000000000000001.parque",
        "00000000000000000000-00000000000000000001-0.parquet",
        "00000000000000000000-00000000000000000001-.parquet",
        "99999999999999999999-00000000000000000001.parquet",
        "log1-00000000000000000000-00000000000000000001.parquet",
        "00000000000000000000-00000000000000000001.parquet.damaged",
        "00000000000000000000-00000000000000000001-0123456789abcdef0123456789abcde.parquet",
        "00000000000000000000-00000000000000000001-0123456789abcdef0123456789abcdef0.parquet",
        "00000000000000000000-00000000000000000001-0123456789ABCDEF0123456789abcdef.parquet",
        "00000000000000000000-00000000000000000001-0-0123456789abcdef0123456789abcdef.parquet",
        "00000000000000000000-00000000000000000001-2-3.parquet",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        char name[TG_PARQUET_NAME_MAX];
        struct tg_parquet_name n;
        tg_parquet_file_name(&good[i], name);
        assert_true(tg_parquet_file_parse(name, &n));
        assert_true(n.from == good[i].from && n.to == good[i].to && n.part == good[i].part);
        assert_string_equal(n.log, good[i].log);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct tg_parquet_name n;
        assert_false(tg_parquet_file_parse(bad[i], &n));
    }
}

/* ---- writing and reading ---- */

static void test_write_and_query(void **state)
{
    (void)state;
    static const char *const compressions[] = {NULL, "zstd", "snappy", "none"};
    for (size_t c = 0; c < 4; c++) {
        static struct bench t;
        static struct points p;
        static const struct tg_tag host = {"host", "a", 4, 1, 0}, no_host = {"host", "b", 4, 1, 0};
        char path[256];
        start(&t, compressions[c]);
        must_open(&t, 0, 0);
        points_init(&p);
        for (int i = 0; i < 10; i++) {
            points_add(&p, "m", T0 + i, i);
            points_add(&p, "n", T0 + DAY_NS * (i % 3), i);
        }
        const struct tg_delivery d = delivery(&p, 10, 30, 0, NULL);
        write_delivery(&t, &d);
        assert_int_equal(t.result.outcome, TG_WRITE_OK);
        assert_int_equal(n_files(&t, ".parquet"), 3);
        assert_int_equal(n_files(&t, ".tmp"), 0);
        assert_true(sim_fs_nth(t.sim, ".parquet", 0, path));
        assert_string_equal(
            path, "/data/pq/date=2023-11-14/00000000000000000010-00000000000000000030.parquet");

        query(&t, (struct tg_query){.start_ns = INT64_MIN});
        assert_int_equal(t.n_rows, 20);
        query(&t, (struct tg_query){.name = "m", .start_ns = T0 + 2, .end_ns = T0 + 5});
        assert_int_equal(t.n_rows, 3);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(t.times[i], T0 + 2 + i);
            assert_true(t.values[i] == 2 + i);
        }
        assert_string_equal(t.names, "m");
        query(&t,
              (struct tg_query){.name = "n", .start_ns = T0 + DAY_NS, .end_ns = T0 + 2 * DAY_NS});
        assert_int_equal(t.n_rows, 3);
        query(&t, (struct tg_query){.tags = &host, .n_tags = 1, .start_ns = INT64_MIN});
        assert_int_equal(t.n_rows, 20);
        query(&t, (struct tg_query){.tags = &no_host, .n_tags = 1, .start_ns = INT64_MIN});
        assert_int_equal(t.n_rows, 0);
        query(&t, (struct tg_query){.start_ns = INT64_MIN, .max_rows = 7});
        assert_int_equal(t.n_rows, 7);
        t.stop_after = 2;
        query(&t, (struct tg_query){.start_ns = INT64_MIN});
        assert_int_equal(t.n_rows, 2);
        t.stop_after = 0;
        query(&t, (struct tg_query){.start_ns = 5, .end_ns = 5});
        assert_int_equal(t.n_rows, 0);
        assert_int_equal(t.end_code, TG_OK);
        points_deinit(&p);
        end(&t);
    }
}

static void test_many_days_in_one_delivery(void **state)
{
    (void)state;
    static struct bench t;
    static struct points p;
    start(&t, "snappy");
    must_open(&t, 0, 0);
    points_init(&p);
    for (int i = 0; i < 600; i++) points_add(&p, "m", T0 + (i * 7 % 200) * DAY_NS + i, i);
    points_add(&p, "m", INT64_MIN, 1);
    points_add(&p, "m", INT64_MAX - 1, 2);
    const struct tg_delivery d = delivery(&p, 0, 602, 0, NULL);
    for (int twice = 0; twice < 2; twice++) {
        write_delivery(&t, &d);
        assert_int_equal(t.result.outcome, TG_WRITE_OK);
        assert_int_equal(n_files(&t, ".parquet"), 202);
        query(&t, (struct tg_query){.start_ns = INT64_MIN});
        assert_int_equal(t.n_rows, 602);
    }
    points_deinit(&p);
    end(&t);
}

static void test_parts(void **state)
{
    (void)state;
    static struct bench t;
    static struct points p;
    start(&t, NULL);
    must_open(&t, 0, 0);
    points_init(&p);
    points_add(&p, "m", T0 + 1, 1);
    points_add(&p, "m", T0 + 2, 2);
    p.sample.points[1].series = (const uint8_t *)"junk"; /* refused: the caller bisects */
    p.sample.points[1].series_len = 4;
    struct tg_delivery d = delivery(&p, 5, 9, 0, NULL);
    for (int twice = 0; twice < 2; twice++) {
        write_delivery(&t, &d);
        assert_int_equal(t.result.outcome, TG_WRITE_REFUSED);
        assert_int_not_equal(t.result.message[0], 0);
        assert_int_equal(n_files(&t, ".parquet"), 0);
        assert_int_equal(n_files(&t, ".tmp"), 0);
    }
    d.n_points = 1;
    d.part = 1;
    write_delivery(&t, &d);
    assert_int_equal(t.result.outcome, TG_WRITE_OK);
    d.points++;
    d.part = 2;
    write_delivery(&t, &d);
    assert_int_equal(t.result.outcome, TG_WRITE_REFUSED);
    p.sample.points[1].series = p.sample.points[0].series;
    p.sample.points[1].series_len = p.sample.points[0].series_len;
    d = delivery(&p, 5, 9, 3, NULL);
    d.points++;
    d.n_points = 1;
    write_delivery(&t, &d);
    assert_int_equal(t.result.outcome, TG_WRITE_OK);
    assert_int_equal(n_files(&t, ".parquet"), 2);
    expect_range(&t, 1, 3);
    points_deinit(&p);
    end(&t);
}

/* A Parquet STRING is UTF-8: other bytes are replaced, and counted. */
static void test_texts_that_are_changed_are_counted(void **state)
{
    (void)state;
    static struct bench t;
    static struct points p;
    static const struct tg_string texts[] = {{"\xc3\xa4", 2}, {"a\xff\xfe", 3}, {"\xc3", 1}};
    start(&t, NULL);
    must_open(&t, 0, 0);
    points_init(&p);
    for (unsigned i = 0; i < 3; i++) {
        points_add(&p, "m", T0 + i * DAY_NS, 1); /* a file each */
        p.sample.points[i].point.type = TG_VALUE_STRING;
        p.sample.points[i].point.value.string = &texts[i];
    }
    const struct tg_delivery d = delivery(&p, 5, 9, 0, NULL);
    for (int twice = 0; twice < 2; twice++) {
        write_delivery(&t, &d);
        assert_int_equal(t.result.outcome, TG_WRITE_OK);
        assert_int_equal(t.result.left_out.n[TG_LEFT_OUT_BYTES], 2);
    }
    points_deinit(&p);
    end(&t);
}

/* ---- exactly once ---- */

static void test_restart(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    write_range(&t, 10, 20, TG_WRITE_OK);
    write_range(&t, 20, 30, TG_WRITE_OK);
    /* the cursor was saved before the last two: they come again, cut otherwise */
    reopen(&t, 10, 50);
    expect_range(&t, 0, 10);
    write_range(&t, 10, 25, TG_WRITE_OK);
    write_range(&t, 25, 50, TG_WRITE_OK);
    expect_range(&t, 0, 50);
    reopen(&t, 50, 50);
    expect_range(&t, 0, 50);
    /* a cursor that was lost starts at what the log still has: nothing may be lost for that */
    reopen(&t, 15, 50);
    expect_range(&t, 0, 25);
    write_range(&t, 15, 50, TG_WRITE_OK);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.n_rows, 60); /* ten points are there twice */
    end(&t);
}

static void test_log_replaced(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    write_range(&t, 10, 20, TG_WRITE_OK);
    /* the operator removed the log's folder: positions begin again */
    reopen(&t, 0, 0);
    expect_range(&t, 0, 20);
    assert_int_equal(n_files(&t, "00000000000000000010-00000000000000000020.parquet"), 1);
    write_range(&t, 0, 10, TG_WRITE_OK); /* new data under the old positions */
    assert_int_equal(n_files(&t, ".parquet"), 3);
    reopen(&t, 10, 10);
    assert_int_equal(n_files(&t, ".parquet"), 3);
    end(&t);
}

/* Positions are those of one log: the folder outlives a log that was wiped. */
static void test_files_of_another_log(void **state)
{
    (void)state;
    static struct bench t;
    struct tg_err err = {.msg = ""};
    start(&t, NULL);
    t.log_id = "11111111-2222-4333-8444-555555555555";
    t.epoch = 1000;
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    write_range(&t, 10, 20, TG_WRITE_OK);
    write_range(&t, 20, 30, TG_WRITE_OK);
    assert_int_equal(n_files(&t, "-00000000000000000020-11111111222243338444555555555555.parquet"),
                     1);
    /* another log, which reaches past the old files by now; its cursor is before them */
    t.log_id = "aaaaaaaa-2222-4333-8444-555555555555";
    reopen(&t, 5, 100);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.n_rows, 30);
    write_range(&t, 10, 20, TG_WRITE_OK); /* the very positions */
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.n_rows, 40);
    /* a rewind into the middle of an old file need not mind it, nor remove one */
    const struct tg_backend_rewind how = {.from_pos = 20};
    uint64_t pos = 5;
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    assert_int_equal(pos, 5);
    write_range(&t, 5, 25, TG_WRITE_OK); /* its own file goes, which comes again */
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.n_rows, 50);
    assert_int_equal(n_files(&t, ".parquet"), 4);
    /* the log that was there first goes on: its last delivery was not confirmed */
    t.log_id = "11111111-2222-4333-8444-555555555555";
    reopen(&t, 20, 30);
    assert_int_equal(n_files(&t, ".parquet"), 3);
    write_range(&t, 20, 30, TG_WRITE_OK);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.n_rows, 50);
    end(&t);
}

/* A log that had no id wrote files without: they are its own, and only its own. */
static void test_files_without_an_id(void **state)
{
    (void)state;
    for (unsigned adopts = 0; adopts < 2; adopts++) {
        static struct bench t;
        start(&t, NULL);
        must_open(&t, 0, 0);
        write_range(&t, 0, 10, TG_WRITE_OK);
        write_range(&t, 10, 20, TG_WRITE_OK);
        write_range(&t, 20, 30, TG_WRITE_OK);
        t.log_id = "11111111-2222-4333-8444-555555555555";
        t.epoch = adopts ? 0 : 1000; /* a cursor of that time, or one that was made since */
        reopen(&t, 10, 25);
        /* as its own: the second comes again, the third is of data that the log lost */
        assert_int_equal(n_files(&t, ".parquet"), adopts ? 2 : 3);
        assert_int_equal(n_files(&t, "-11111111222243338444555555555555.parquet"), adopts ? 2 : 0);
        write_range(&t, 10, 25, TG_WRITE_OK);
        query(&t, (struct tg_query){.start_ns = INT64_MIN});
        assert_int_equal(t.n_rows, adopts ? 35 : 45);
        end(&t);
    }
}

static void test_rewind(void **state)
{
    (void)state;
    static const struct {
        uint64_t ask, oldest, want;
    } cases[] = {
        {0, 0, 0},   {10, 0, 10},  {30, 0, 30},  {35, 0, 35}, /* past the end: as it is */
        {15, 0, 10}, {29, 10, 20}, {15, 12, 20}, {25, 21, 30}, {20, 20, 20}, {5, 5, 10},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        static struct bench t;
        struct tg_err err = {.msg = ""};
        uint64_t pos = cases[i].ask;
        start(&t, NULL);
        must_open(&t, 0, 0);
        for (uint64_t at = 0; at < 30; at += 10) write_range(&t, at, at + 10, TG_WRITE_OK);
        const struct tg_backend_rewind how = {.from_pos = 30, .oldest_pos = cases[i].oldest};
        assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
        assert_int_equal(pos, cases[i].want);
        expect_range(&t, 0, 30); /* nothing is gone before it comes again */
        if (i % 2) reopen(&t, pos < 30 ? pos : 30, 30);
        for (uint64_t at = pos; at < 30; at += 4)
            write_range(&t, at, at + 4 < 30 ? at + 4 : 30, TG_WRITE_OK);
        expect_range(&t, 0, 30);
        write_range(&t, 30, 40, TG_WRITE_OK);
        expect_range(&t, 0, 40);
        end(&t);
    }
}

/* What a rewind sets aside goes when it came again; what the log lost is kept. */
static void test_rewind_over_what_the_log_lost(void **state)
{
    (void)state;
    for (unsigned restarts = 0; restarts < 2; restarts++) {
        static struct bench t;
        struct tg_err err = {.msg = ""};
        uint64_t pos = 0;
        start(&t, NULL);
        must_open(&t, 0, 0);
        for (uint64_t at = 0; at < 40; at += 10) write_range(&t, at, at + 10, TG_WRITE_OK);
        const struct tg_backend_rewind how = {.from_pos = 40};
        assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
        write_range(&t, 0, 10, TG_WRITE_OK);
        assert_int_equal(n_files(&t, ".parquet.again"), 4);
        settle(&t, 0, 10, 0, 0);
        assert_int_equal(n_files(&t, ".parquet.again"), 3);
        if (restarts) reopen(&t, 10, 40);
        settle(&t, 10, 20, 10, 20); /* nothing of it came: it is data again */
        assert_int_equal(n_files(&t, ".parquet.again"), 2);
        expect_range(&t, 0, 20);
        write_range(&t, 20, 25, TG_WRITE_OK); /* half of it came */
        settle(&t, 20, 25, 0, 0);
        assert_int_equal(n_files(&t, ".parquet.again"), 2);
        settle(&t, 25, 30, 25, 30);
        assert_int_equal(n_files(&t, ".parquet.kept"), 1);
        write_range(&t, 30, 40, TG_WRITE_OK);
        settle(&t, 30, 40, 0, 0);
        assert_int_equal(n_files(&t, ".parquet.again"), 0);
        assert_int_equal(n_files(&t, ".parquet.kept"), 1);
        end(&t);
    }
}

/* One large delivery over many files that come again: those that the log lost whole are data as
 * before, and only those of which some came are kept beside it. */
static void test_large_delivery_over_what_the_log_lost(void **state)
{
    (void)state;
    static struct bench t;
    struct tg_err err = {.msg = ""};
    uint64_t pos = 0;
    start(&t, NULL);
    must_open(&t, 0, 0);
    for (uint64_t at = 0; at < 100; at += 10) write_range(&t, at, at + 10, TG_WRITE_OK);
    const struct tg_backend_rewind how = {.from_pos = 100};
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    assert_int_equal(write_holed(&t, 0, 100, 25, 60), TG_WRITE_OK);
    assert_int_equal(n_files(&t, ".again"), 10);
    settle(&t, 0, 100, 25, 60);
    assert_int_equal(n_files(&t, ".again"), 0);
    assert_int_equal(n_files(&t, ".kept"), 1); /* [20, 30) */
    assert_int_equal(n_files(&t, ".parquet"), 4);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.n_rows, 95); /* all but [25, 30), each once */
    /* what came and went stays away when the machine goes down */
    sim_fs_power_loss(t.sim, SIM_LOSE_ALL);
    reopen(&t, 100, 100);
    assert_int_equal(n_files(&t, ".again"), 0);
    assert_int_equal(n_files(&t, ".kept"), 1);
    assert_int_equal(n_files(&t, ".parquet"), 4);
    end(&t);
}

/* A file of which a part is lost while the rest is still to come is not data: that would be there
 * twice. */
static void test_lost_before_the_rest_comes(void **state)
{
    (void)state;
    static struct bench t;
    struct tg_err err = {.msg = ""};
    uint64_t pos = 0;
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 20, TG_WRITE_OK);
    const struct tg_backend_rewind how = {.from_pos = 20};
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    assert_int_equal(write_holed(&t, 0, 10, 0, 10), TG_WRITE_OK);
    settle(&t, 0, 10, 0, 10);
    write_range(&t, 10, 20, TG_WRITE_OK);
    settle(&t, 10, 20, 0, 0);
    expect_range(&t, 10, 20);
    assert_int_equal(n_files(&t, ".kept") + n_files(&t, ".parquet"), 2);
    end(&t);
}

/* The log lost its start: the delivery that begins before it has the positions, and may have the
 * name, of a file whose points are nowhere else. */
static void test_same_name_from_before_the_start_of_the_log(void **state)
{
    (void)state;
    for (uint64_t to = 20; to <= 24; to += 4) {
        static struct bench t;
        start(&t, NULL);
        must_open(&t, 0, 0);
        write_range(&t, 0, 20, TG_WRITE_OK); /* not confirmed: the cursor stays at 0 */
        reopen(&t, 10, 30);
        assert_int_equal(write_holed(&t, 0, to, 0, 10), TG_WRITE_OK);
        settle(&t, 0, to, 0, 10);
        expect_range(&t, 10, to);
        assert_int_equal(n_files(&t, ".kept"), 1); /* with [0, 10) */
        assert_int_equal(n_files(&t, ".again"), 0);
        end(&t);
    }
}

/* A rewind that did not happen after all (the cursor could not be saved) takes nothing away. */
static void test_rewind_that_failed(void **state)
{
    (void)state;
    static struct bench t;
    struct tg_err err = {.msg = ""};
    uint64_t pos = 0;
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    write_range(&t, 10, 20, TG_WRITE_OK);
    const struct tg_backend_rewind how = {.from_pos = 20};
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    write_range(&t, 20, 30, TG_WRITE_OK);
    expect_range(&t, 0, 30);
    end(&t);
}

/* Back and then forward before all came again: the files that were to come again are gone, so their
 * points must come. */
static void test_forward_while_data_comes_again(void **state)
{
    (void)state;
    static struct bench t;
    struct tg_err err = {.msg = ""};
    uint64_t pos = 0;
    start(&t, NULL);
    must_open(&t, 0, 0);
    for (uint64_t at = 0; at < 30; at += 10) write_range(&t, at, at + 10, TG_WRITE_OK);
    struct tg_backend_rewind how = {.from_pos = 30};
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    write_range(&t, 0, 4, TG_WRITE_OK);
    how = (struct tg_backend_rewind){.from_pos = 4, .comes_again = true};
    for (int twice = 0; twice < 2; twice++) {
        pos = 30;
        assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_ERR_INVALID);
        assert_non_null(strstr(err.msg, "wait until it has caught up"));
    }
    pos = 0; /* back is always possible */
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    for (uint64_t at = 0; at < 30; at += 6) write_range(&t, at, at + 6, TG_WRITE_OK);
    expect_range(&t, 0, 30);
    how = (struct tg_backend_rewind){.from_pos = 30};
    pos = 40;
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    assert_int_equal(pos, 40);
    expect_range(&t, 0, 30);
    end(&t);
}

/* Every operation of the file system fails once, then the delivery comes again: each point once. */
static void test_failures(void **state)
{
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        static struct bench t;
        static struct points p;
        start(&t, NULL);
        must_open(&t, 0, 0);
        write_range(&t, 0, 3, TG_WRITE_OK);
        points_init(&p);
        for (int i = 3; i < 9; i++) points_add(&p, "m", T0 + i, i);
        points_add(&p, "late", T0 - DAY_NS, 1);
        points_add(&p, "late", T0 + DAY_NS, 2);
        struct tg_delivery d = delivery(&p, 3, 11, 0, NULL);
        t.sim->stop_at = t.sim->n_ops + nth;
        write_delivery(&t, &d);
        const bool failed = t.result.outcome != TG_WRITE_OK;
        if (failed) assert_int_equal(t.result.outcome, TG_WRITE_RETRY);
        if (failed) assert_int_not_equal(t.result.message[0], 0);
        t.sim->stop_at = 0;
        /* meanwhile the rules changed: the point of the day before is not for us any more */
        d.points = &p.d[0];
        d.n_points = 6;
        if (nth % 3 == 0) { /* or the machine went down */
            sim_fs_power_loss(t.sim, nth % 2 ? SIM_LOSE_ALL : SIM_KEEP_SOME);
            reopen(&t, 3, 11);
        }
        write_delivery(&t, &d);
        assert_int_equal(t.result.outcome, TG_WRITE_OK);
        expect_range(&t, 0, 9);
        points_deinit(&p);
        end(&t);
        if (!failed) break;
        assert_true(nth < 200);
    }
}

static void test_disk_full(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, "none");
    must_open(&t, 0, 0);
    write_range(&t, 0, 3, TG_WRITE_OK);
    t.sim->capacity = sim_fs_used(t.sim) + 100;
    for (int twice = 0; twice < 2; twice++) {
        write_range(&t, 3, 9, TG_WRITE_RETRY);
        assert_non_null(strstr(t.result.message, strerror(ENOSPC)));
        assert_int_equal(n_files(&t, ".tmp"), 0);
    }
    t.sim->capacity = 0;
    write_range(&t, 3, 9, TG_WRITE_OK);
    expect_range(&t, 0, 9);
    end(&t);
}

static void test_power_loss_keeps_what_was_confirmed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        static struct bench t;
        start(&t, NULL);
        must_open(&t, 0, 0);
        write_range(&t, 0, 10, TG_WRITE_OK);
        write_range(&t, 10, 20, TG_WRITE_OK);
        sim_fs_power_loss(t.sim, (enum sim_loss)i);
        reopen(&t, 20, 20);
        expect_range(&t, 0, 20);
        end(&t);
    }
}

static void test_open_cleans_up(void **state)
{
    (void)state;
    static struct bench t;
    static struct bench second;
    struct tg_err err = {.msg = ""};
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    assert_true(sim_fs_put(t.sim, "/data/pq/date=2023-11-14/.x.parquet.tmp", "half", 4));
    assert_true(sim_fs_put(t.sim, "/data/pq/date=2023-11-14/notes.txt", "mine", 4));
    assert_true(sim_fs_put(t.sim, "/data/pq/notes.txt", "mine", 4));
    assert_int_equal(t.sim->fs.mkdir(t.sim->fs.self, "/data/pq/other"), 0);
    reopen(&t, 10, 10);
    assert_int_equal(n_files(&t, ".tmp"), 0);
    assert_int_equal(n_files(&t, "notes.txt"), 2);
    expect_range(&t, 0, 10);
    /* one folder, one backend */
    second = t;
    assert_int_equal(open_at(&second, 0, 0, &err), TG_ERR_INVALID);
    assert_non_null(strstr(err.msg, "/data/pq is in use"));
    assert_true(sim_fs_remove(t.sim, "/data/pq/.lock")); /* what is locked is the folder */
    assert_int_equal(open_at(&second, 0, 0, &err), TG_ERR_INVALID);
    expect_range(&t, 0, 10);
    end(&t);
}

/* ---- damage ---- */

static void test_damaged_file_is_set_aside(void **state)
{
    (void)state;
    static struct bench t;
    char path[256];
    size_t len;
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    write_range(&t, 10, 20, TG_WRITE_OK);
    write_range(&t, 20, 30, TG_WRITE_OK);
    assert_true(sim_fs_nth(t.sim, ".parquet", 1, path));
    uint8_t *bytes = sim_fs_bytes(t.sim, path, &len);
    bytes[len - 1] ^= 1;
    sim_fs_settle(t.sim, path);
    assert_true(sim_fs_put(t.sim, "/data/pq/date=2023-11-14/empty.parquet", "", 0));
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.end_code, TG_ERR_CORRUPT);
    assert_non_null(strstr(t.end_message, "set aside"));
    assert_int_equal(t.n_rows, 20); /* the others are there */
    assert_int_equal(n_files(&t, ".damaged"), 2);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.end_code, TG_OK);
    assert_int_equal(t.n_rows, 20);
    t.sim->eio_reads = true; /* not damage: nothing is set aside */
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.end_code, TG_ERR_IO);
    assert_int_equal(n_files(&t, ".damaged"), 2);
    t.sim->eio_reads = false;
    end(&t);
}

/* A query that finds a file damaged while a delivery puts another in its place must not set that
 * one aside. */
static struct tg_fs replacing;
static const struct tg_fs *replaced;
static char damaged_path[256], good_path[300];

static int64_t replace_then_read(void *self, int fd, void *buf, size_t len, uint64_t off)
{
    if (good_path[0]) assert_int_equal(replaced->rename(self, good_path, damaged_path), 0);
    good_path[0] = '\0';
    return replaced->pread(self, fd, buf, len, off);
}

static void test_only_the_damaged_file_is_set_aside(void **state)
{
    (void)state;
    static struct bench t;
    size_t len;
    start(&t, NULL);
    replaced = &t.sim->fs;
    replacing = t.sim->fs;
    replacing.pread = replace_then_read;
    tg_backend_parquet_set_fs(&replacing);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    assert_true(sim_fs_nth(t.sim, ".parquet", 0, damaged_path));
    const uint8_t *good = sim_fs_bytes(t.sim, damaged_path, &len);
    char other[300];
    (void)snprintf(other, sizeof(other), "%s.new", damaged_path);
    assert_true(sim_fs_put(t.sim, other, (const char *)good, len));
    uint8_t *bytes = sim_fs_bytes(t.sim, damaged_path, &len);
    bytes[len - 1] ^= 1;
    sim_fs_settle(t.sim, damaged_path);
    (void)snprintf(good_path, sizeof(good_path), "%s", other);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.end_code, TG_ERR_CORRUPT);
    assert_int_equal(n_files(&t, ".damaged"), 0);
    expect_range(&t, 0, 10);
    end(&t);
}

/* ---- without time ---- */

/* A write of many files ends between two of them, as one to be made again, and leaves none; upkeep
 * ends where it is. */
static void test_no_more_time(void **state)
{
    (void)state;
    static struct bench t;
    static struct points p;
    struct tg_err err = {.msg = ""};
    struct tg_plan *plan = calloc(1, sizeof(*plan));
    plan->keep_ms = 1000;
    start(&t, NULL);
    must_open(&t, 0, 0);
    points_init(&p);
    for (int day = 0; day < 3; day++) points_add(&p, "m", T0 + day * DAY_NS, day);
    struct tg_delivery d = delivery(&p, 0, 3, 0, plan);
    t.is_overdue = true;
    write_delivery(&t, &d);
    assert_int_equal(t.result.outcome, TG_WRITE_RETRY);
    assert_int_equal(n_files(&t, ".parquet"), 0);
    t.is_overdue = false;
    write_delivery(&t, &d);
    assert_int_equal(t.result.outcome, TG_WRITE_OK);
    assert_int_equal(n_files(&t, ".parquet"), 3);
    t.is_overdue = true;
    assert_int_equal(ops->apply_retention(t.b, T0 + 10 * DAY_NS, &err), TG_OK);
    assert_int_equal(n_files(&t, ".parquet"), 3);
    t.is_overdue = false;
    assert_int_equal(ops->apply_retention(t.b, T0 + 10 * DAY_NS, &err), TG_OK);
    assert_int_equal(n_files(&t, ".parquet"), 0);
    points_deinit(&p);
    end(&t);
    free(plan);
}

/* ---- queries beside the rest ---- */

static void test_query_is_told_to_end(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    struct tg_query_stop asked = {.reason = TG_QUERY_CLIENT_GONE};
    struct tg_query_stop late = {.deadline_ms = 1};
    struct tg_query_stop neither = {.deadline_ms = UINT64_MAX};
    query(&t, (struct tg_query){.start_ns = INT64_MIN, .stop = &asked});
    assert_int_equal(t.end_code, TG_ERR_CANCELED);
    assert_int_equal(t.n_rows, 0);
    query(&t, (struct tg_query){.start_ns = INT64_MIN, .stop = &late});
    assert_int_equal(t.end_code, TG_ERR_CANCELED);
    assert_int_equal(atomic_load(&late.reason), TG_QUERY_OUT_OF_TIME);
    query(&t, (struct tg_query){.start_ns = INT64_MIN, .stop = &neither});
    assert_int_equal(t.end_code, TG_OK);
    assert_int_equal(t.n_rows, 10);
    end(&t);
}

/* What is ingested needs its memory more than a query does. */
static void test_query_leaves_memory(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, NULL);
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    tg_mem_set_limit(tg_mem_used() * 2);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.end_code, TG_ERR_FULL);
    assert_int_equal(t.n_rows, 0);
    tg_mem_set_limit(0);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.end_code, TG_OK);
    assert_int_equal(t.n_rows, 10);
    end(&t);
}

struct reader_thread {
    pthread_t thread;
    struct tg_backend *b;
    _Atomic bool is_over;
    unsigned n_queries, n_failed, n_bad_rows;
    char message[256];
};

static bool on_thread_row(void *arg, const struct tg_query_row *row)
{
    struct reader_thread *r = arg;
    const int64_t at = row->point->ts_ns - T0;
    if (at < 0 || at >= 4096 || row->point->value.f64 != (double)at) r->n_bad_rows++;
    return true;
}

static void on_thread_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct reader_thread *r = arg;
    r->n_queries++;
    if (code == TG_OK) return;
    r->n_failed++;
    (void)snprintf(r->message, sizeof(r->message), "%s", err->msg);
}

static void *ask_on(void *arg)
{
    struct reader_thread *r = arg;
    const struct tg_query q = {.start_ns = INT64_MIN, .end_ns = INT64_MAX, .max_rows = 100000};
    while (!atomic_load(&r->is_over)) ops->query_range(r->b, &q, on_thread_row, on_thread_end, r);
    return NULL;
}

/* Files come, go and are replaced under queries: none of them fails or sees half a file. */
static void test_queries_beside_writes_rewinds_and_retention(void **state)
{
    (void)state;
    static struct bench t;
    struct reader_thread readers[2] = {0};
    struct tg_err err = {.msg = ""};
    start(&t, NULL);
    must_open(&t, 0, 0);
    for (size_t i = 0; i < 2; i++) {
        readers[i].b = t.b;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, ask_on, &readers[i]), 0);
    }
    for (int round = 0; round < 15; round++) {
        for (uint64_t at = 0; at < 200; at += 20) write_range(&t, at, at + 20, TG_WRITE_OK);
        uint64_t pos = 0;
        const struct tg_backend_rewind how = {.from_pos = 200, .oldest_pos = 0};
        assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
        assert_int_equal(ops->apply_retention(t.b, T0, &err), TG_OK);
    }
    for (size_t i = 0; i < 2; i++) {
        atomic_store(&readers[i].is_over, true);
        (void)pthread_join(readers[i].thread, NULL);
        assert_true(readers[i].n_queries > 0);
        if (readers[i].n_failed) fail_msg("%s", readers[i].message);
        assert_int_equal(readers[i].n_bad_rows, 0);
    }
    assert_int_equal(n_files(&t, ".damaged"), 0);
    end(&t);
}

/* ---- upkeep ---- */

static void test_retention(void **state)
{
    (void)state;
    static struct bench t;
    static struct points p;
    struct tg_err err = {.msg = ""};
    struct tg_plan *short_plan = calloc(1, sizeof(*short_plan));
    struct tg_plan *long_plan = calloc(1, sizeof(*long_plan));
    short_plan->keep_ms = 3600 * 1000;
    long_plan->keep_ms = 7200 * 1000;
    start(&t, NULL);
    must_open(&t, 0, 0);
    points_init(&p);
    points_add(&p, "m", T0 + 1, 1);
    points_add(&p, "m", T0 + 2, 2);
    struct tg_delivery d = delivery(&p, 0, 2, 0, short_plan); /* expires after an hour */
    write_delivery(&t, &d);
    d = delivery(&p, 2, 4, 0, short_plan);
    p.d[1].plan = long_plan; /* the longest keep of a file counts */
    write_delivery(&t, &d);
    d = delivery(&p, 4, 6, 0, short_plan);
    p.d[0].plan = NULL; /* for ever */
    write_delivery(&t, &d);
    static const int64_t hour = INT64_C(3600) * 1000000000;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(ops->apply_retention(t.b, T0 + hour + 1, &err), TG_OK);
        assert_int_equal(n_files(&t, ".parquet"), 3);
    }
    assert_int_equal(ops->apply_retention(t.b, T0 + hour + 2, &err), TG_OK);
    assert_int_equal(n_files(&t, ".parquet"), 2);
    reopen(&t, 6, 6);
    assert_int_equal(ops->apply_retention(t.b, T0 + 2 * hour + 2, &err), TG_OK);
    assert_int_equal(n_files(&t, ".parquet"), 1);
    assert_int_equal(ops->apply_retention(t.b, INT64_MAX, &err), TG_OK);
    assert_int_equal(n_files(&t, ".parquet"), 1);

    /* a day that is empty goes, and comes again when needed */
    points_deinit(&p);
    points_init(&p);
    points_add(&p, "m", T0 - DAY_NS, 1);
    d = delivery(&p, 6, 7, 0, short_plan);
    write_delivery(&t, &d);
    assert_int_equal(ops->apply_retention(t.b, T0, &err), TG_OK);
    struct tg_fs_stat st;
    assert_int_equal(t.sim->fs.stat(t.sim->fs.self, "/data/pq/date=2023-11-13", &st), -ENOENT);
    d = delivery(&p, 7, 8, 0, short_plan);
    write_delivery(&t, &d);
    assert_int_equal(t.result.outcome, TG_WRITE_OK);
    assert_int_equal(n_files(&t, ".parquet"), 2);
    points_deinit(&p);
    end(&t);
    free(short_plan);
    free(long_plan);
}

static void on_health(void *arg, enum tg_code code, const char *message)
{
    struct bench *t = arg;
    t->health_code = code;
    (void)snprintf(t->end_message, sizeof(t->end_message), "%s", message);
}

static void test_health(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, NULL);
    must_open(&t, 0, 0);
    ops->health(t.b, on_health, &t);
    assert_int_equal(t.health_code, TG_OK);
    t.sim->stop_at = t.sim->n_ops + 1;
    ops->health(t.b, on_health, &t);
    assert_int_equal(t.health_code, TG_ERR_IO);
    assert_non_null(strstr(t.end_message, "/data/pq"));
    t.sim->stop_at = 0;
    end(&t);
    ops->close(NULL);
}

static void test_prepare(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, NULL);
    must_open(&t, 0, 0);
    struct tg_tag tag = {"k", "v", 1, 1, 0};
    const struct tg_series_desc d = {
        .name = "m", .unit = "", .name_len = 1, .n_tags = 1, .tags = &tag};
    struct tg_buf a, b;
    struct tg_err err;
    tg_buf_init(&a, 0);
    tg_buf_init(&b, 0);
    assert_int_equal(ops->prepare(t.b, &d, &a, &err), TG_OK);
    assert_int_equal(tg_series_desc_encode(&d, &b), TG_OK);
    assert_int_equal(a.len, b.len + 1);
    assert_int_equal(a.data[0], b.len << 1);
    assert_memory_equal(a.data + 1, b.data, b.len);
    end(&t);
    tg_buf_deinit(&a);
    tg_buf_deinit(&b);
}

static void test_without_memory(void **state)
{
    (void)state;
    static struct bench t;
    static struct points p;
    struct tg_err err;
    tg_log_set_level(TG_LOG_ERROR);
    start(&t, NULL);
    points_init(&p);
    for (int i = 0; i < 30; i++) points_add(&p, "m", T0 + i + i % 3 * DAY_NS, i);
    const struct tg_delivery d = delivery(&p, 0, 30, 0, NULL);
    for (uint64_t nth = 1;; nth++) {
        tg_mem_fail_at(nth);
        enum tg_code code = open_at(&t, 0, UINT64_MAX, &err);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM);
        if (code == TG_OK) {
            write_delivery(&t, &d);
            if (t.result.outcome != TG_WRITE_OK) assert_int_equal(t.result.outcome, TG_WRITE_RETRY);
            query(&t, (struct tg_query){.start_ns = INT64_MIN});
            if (t.end_code != TG_OK) assert_int_equal(t.end_code, TG_ERR_NOMEM);
            code = ops->apply_retention(t.b, T0, &err);
            assert_true(code == TG_OK || code == TG_ERR_NOMEM);
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        ops->close(t.b);
        t.b = NULL;
        if (!fired) break;
    }
    assert_int_equal(t.result.outcome, TG_WRITE_OK);
    assert_int_equal(t.n_rows, 30);
    points_deinit(&p);
    end(&t);
}

/* Files at their limit (ulimit -f): in halves, and a point alone is not at fault either. */
static void test_file_size_limit(void **state)
{
    (void)state;
    static struct bench t;
    start(&t, NULL);
    must_open(&t, 0, 0);
    for (unsigned twice = 0; twice < 2; twice++) {
        t.sim->max_file = 3000;
        write_range(&t, 0, 4000, TG_WRITE_TOO_LARGE);
        t.sim->max_file = 100;
        write_range(&t, 0, 1, TG_WRITE_RETRY);
        assert_non_null(strstr(t.result.message, "File too large"));
        assert_int_equal(n_files(&t, ".parquet"), 0);
        assert_int_equal(n_files(&t, ".tmp"), 0);
    }
    t.sim->max_file = 0;
    write_range(&t, 0, 4000, TG_WRITE_OK);
    end(&t);
}

static void start_real(struct bench *t, const char *dir)
{
    struct tg_err err = {.msg = ""};
    memset(t, 0, sizeof(*t));
    t->sim = sim_fs_new(7); /* not used */
    tg_backend_parquet_set_fs(NULL);
    t->loop = tg_loop_new();
    tg_arena_init(&t->arena, 0);
    assert_int_equal(tg_options_init(&t->options, ops->options, &t->arena), TG_OK);
    assert_int_equal(tg_options_set(&t->options, "dir", dir, &t->arena, &err), TG_OK);
    assert_int_equal(tg_options_complete(&t->options, &err), TG_OK);
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    static struct bench t;
    char top[] = "/tmp/tidegate-test-parquet-XXXXXX", dir[80], aside[80], path[200], command[96];
    struct tg_err err = {.msg = ""};
    assert_non_null(mkdtemp(top));
    (void)snprintf(dir, sizeof(dir), "%s/pq", top);
    (void)snprintf(aside, sizeof(aside), "%s/aside", top);
    start_real(&t, dir);
    (void)alarm(60); /* what waits for the other end of a FIFO is killed */
    must_open(&t, 0, 0);
    write_range(&t, 0, 10, TG_WRITE_OK);
    (void)snprintf(path, sizeof(path), "%s/date=2023-11-14/x.parquet", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.end_code, TG_ERR_IO);
    assert_non_null(strstr(t.end_message, "it is a FIFO, not a regular file"));
    assert_int_equal(ops->apply_retention(t.b, T0 + 100 * DAY_NS, &err), TG_OK);
    (void)snprintf(command, sizeof(command), "%s/.health", dir);
    assert_int_equal(mkfifo(command, 0600), 0);
    ops->health(t.b, on_health, &t);
    assert_int_equal(t.health_code, TG_ERR_IO);
    assert_int_equal(unlink(command), 0);
    assert_int_equal(unlink(path), 0);
    /* the file of the next delivery: replaced, as any other of that name */
    (void)snprintf(path, sizeof(path),
                   "%s/date=2023-11-14/00000000000000000010-00000000000000000020.parquet", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    write_range(&t, 10, 20, TG_WRITE_OK);
    expect_range(&t, 0, 20);
    /* The folder is moved away: it goes on in a new one, which is then its own. */
    assert_int_equal(rename(dir, aside), 0);
    write_range(&t, 20, 30, TG_WRITE_RETRY); /* the folder of the day is not there yet */
    write_range(&t, 20, 30, TG_WRITE_OK);
    expect_range(&t, 20, 30);
    struct tg_folder_lock l;
    assert_int_equal(tg_folder_lock_take(&l, tg_fs_real(), dir, NULL, "", &err),
                     TG_ERR_UNAVAILABLE);
    assert_int_equal(tg_folder_lock_take(&l, tg_fs_real(), aside, NULL, "", &err), TG_OK);
    /* put back, but another has it by now: the deliveries wait for that */
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(rename(aside, dir), 0);
    write_range(&t, 30, 40, TG_WRITE_RETRY);
    assert_non_null(strstr(t.result.message, "is in use by"));
    tg_folder_lock_release(&l);
    write_range(&t, 30, 40, TG_WRITE_OK);
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    assert_int_equal(t.n_rows, 30);
    (void)alarm(0);
    end(&t);
    (void)snprintf(command, sizeof(command), "rm -rf %s", top);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    tg_hash_seed(1);
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_day_names),
        cmocka_unit_test(test_file_names),
        cmocka_unit_test(test_write_and_query),
        cmocka_unit_test(test_many_days_in_one_delivery),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_texts_that_are_changed_are_counted),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_log_replaced),
        cmocka_unit_test(test_files_of_another_log),
        cmocka_unit_test(test_files_without_an_id),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_rewind_over_what_the_log_lost),
        cmocka_unit_test(test_large_delivery_over_what_the_log_lost),
        cmocka_unit_test(test_lost_before_the_rest_comes),
        cmocka_unit_test(test_same_name_from_before_the_start_of_the_log),
        cmocka_unit_test(test_rewind_that_failed),
        cmocka_unit_test(test_forward_while_data_comes_again),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_power_loss_keeps_what_was_confirmed),
        cmocka_unit_test(test_open_cleans_up),
        cmocka_unit_test(test_damaged_file_is_set_aside),
        cmocka_unit_test(test_only_the_damaged_file_is_set_aside),
        cmocka_unit_test(test_no_more_time),
        cmocka_unit_test(test_query_is_told_to_end),
        cmocka_unit_test(test_query_leaves_memory),
        cmocka_unit_test(test_queries_beside_writes_rewinds_and_retention),
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_what_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
