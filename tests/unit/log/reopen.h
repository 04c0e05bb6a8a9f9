/* reopen.h: a log that is closed and opened again, what it says then, and what a backend would get. */
#ifndef TG_TESTS_LOG_REOPEN_H
#define TG_TESTS_LOG_REOPEN_H

#include "tests/support/capture.h"
#include "tests/unit/log/log_rig.h"

static char said[64 << 10];

static void close_log(struct rig *r)
{
    tg_log_close(r->log);
    r->log = NULL;
}

/* Opens; what it says is in `said`. */
static void open_log(struct rig *r)
{
    struct tg_err err = {.msg = ""};
    capture_begin();
    const enum tg_code code = tg_log_open(&r->config, &r->log, &err);
    capture_end(said, sizeof(said));
    if (code != TG_OK) fail_msg("%s", err.msg);
}

static void must_say(const char *words)
{
    if (!strstr(said, words)) fail_msg("\"%s\" is not in \"%s\"", words, said);
}

static struct tg_log_cursor *cursor(struct rig *r, const char *name)
{
    struct tg_log_cursor *c;
    assert_int_equal(tg_log_cursor_open(r->log, name, true, &c, NULL), TG_OK);
    return c;
}

/* What a backend would get that goes on at the cursor. */
static void deliver(struct rig *r, struct tg_log_cursor *c, uint64_t *points, uint64_t *lost)
{
    struct tg_log_reader *reader;
    const struct tg_cursor_state s = tg_log_cursor_get(c);
    uint64_t pos = s.pos;
    *points = *lost = 0;
    assert_int_equal(tg_log_reader_open(r->log, s.pos, &reader, NULL), TG_OK);
    tg_log_reader_expect(reader, s.point_no);
    *lost = read_on(r, reader, 1000, points, &pos);
    tg_log_reader_close(reader);
    assert_int_equal(pos, tg_log_stats(r->log).end_pos);
}

#endif
