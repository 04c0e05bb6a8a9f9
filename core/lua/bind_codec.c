/* tidegate.codec_core: the codecs over Lua strings. lua/tidegate/codec.lua gives them their shape;
 * int64 crosses here as packed native-endian 8-byte strings, since the C API cannot make cdata.
 *
 *   gorilla_encode({numbers}) -> bytes          gorilla_decode(bytes) -> {numbers}
 *   delta_encode(packed) -> bytes               delta_decode(bytes) -> packed     (dod_ likewise)
 *   snappy_compress(bytes) -> bytes             snappy_uncompress(bytes, max) -> bytes
 *   influx_parse(text, precision) -> { {measurement, field, tags, time8, type, value}, ... }
 *
 * Expected failure: nil, message.
 */
#include <lauxlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/codec/series_codec.h"
#include "core/lua/modules.h"
#include "core/protocol/influx_line.h"

enum { MAX_BYTES = 1 << 28, MAX_VALUES = MAX_BYTES / 8 };

static int push_buf(lua_State *L, const struct tg_buf *b)
{
    lua_pushlstring(L, b->data ? (const char *)b->data : "", b->len);
    return 1;
}

static int tgl_gorilla_encode(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    const size_t n = lua_objlen(L, 1);
    struct tg_err err = {.msg = ""};
    if (n > MAX_VALUES) {
        (void)tg_fail(&err, TG_ERR_TOO_LARGE, "%zu values; at most %d are encoded at once", n,
                      (int)MAX_VALUES);
        return tgl_fail(L, &err);
    }
    double *values = lua_newuserdata(L, (n ? n : 1) * sizeof(*values));
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 1, (int)i + 1);
        if (lua_type(L, -1) != LUA_TNUMBER) {
            (void)tg_fail(&err, TG_ERR_INVALID, "value %zu is a %s, not a number", i + 1,
                          luaL_typename(L, -1));
            return tgl_fail(L, &err);
        }
        values[i] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    struct tg_buf *out = tgl_buf_push(L, MAX_BYTES);
    if (tg_gorilla_encode(values, n, out, &err) != TG_OK) return tgl_fail(L, &err);
    return push_buf(L, out);
}

static int tgl_gorilla_decode(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct tg_err err = {.msg = ""};
    enum tg_series_codec codec;
    size_t n;
    if (tg_series_codec_peek(bytes, len, &codec, &n, &err) != TG_OK) return tgl_fail(L, &err);
    double *values = lua_newuserdata(L, (n ? n : 1) * sizeof(*values));
    if (tg_gorilla_decode(bytes, len, values, n, &n, &err) != TG_OK) return tgl_fail(L, &err);
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushnumber(L, values[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

typedef enum tg_code (*int_encode_fn)(const int64_t *values, size_t n, struct tg_buf *out,
                                      struct tg_err *err);
typedef enum tg_code (*int_decode_fn)(const void *bytes, size_t len, int64_t *values, size_t cap,
                                      size_t *n, struct tg_err *err);

static int int_encode(lua_State *L, int_encode_fn encode)
{
    size_t len;
    const char *packed = luaL_checklstring(L, 1, &len);
    luaL_argcheck(L, len % 8 == 0, 1, "packed int64 have 8 bytes each");
    struct tg_err err = {.msg = ""};
    int64_t *values = lua_newuserdata(L, len ? len : 8); /* a string need not be aligned */
    memcpy(values, packed, len);
    struct tg_buf *out = tgl_buf_push(L, MAX_BYTES);
    if (encode(values, len / 8, out, &err) != TG_OK) return tgl_fail(L, &err);
    return push_buf(L, out);
}

static int int_decode(lua_State *L, int_decode_fn decode)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct tg_err err = {.msg = ""};
    enum tg_series_codec codec;
    size_t n;
    if (tg_series_codec_peek(bytes, len, &codec, &n, &err) != TG_OK) return tgl_fail(L, &err);
    int64_t *values = lua_newuserdata(L, (n ? n : 1) * sizeof(*values));
    if (decode(bytes, len, values, n, &n, &err) != TG_OK) return tgl_fail(L, &err);
    lua_pushlstring(L, (const char *)values, n * sizeof(*values));
    return 1;
}

static int tgl_delta_encode(lua_State *L)
{
    return int_encode(L, tg_delta_encode);
}
static int tgl_delta_decode(lua_State *L)
{
    return int_decode(L, tg_delta_decode);
}
static int tgl_dod_encode(lua_State *L)
{
    return int_encode(L, tg_dod_encode);
}
static int tgl_dod_decode(lua_State *L)
{
    return int_decode(L, tg_dod_decode);
}

static int tgl_snappy_compress(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct tg_err err = {.msg = ""};
    struct tg_buf *out = tgl_buf_push(L, MAX_BYTES);
    struct tg_compress c;
    tg_compress_init(&c);
    const enum tg_code code = tg_compress_encode(&c, TG_ENCODING_SNAPPY, bytes, len, out, &err);
    tg_compress_deinit(&c);
    return code == TG_OK ? push_buf(L, out) : tgl_fail(L, &err);
}

static int tgl_snappy_uncompress(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    const lua_Number max = luaL_optnumber(L, 2, MAX_BYTES);
    luaL_argcheck(L, max >= 0 && max <= MAX_BYTES, 2, "the limit is 0 to 2^28 bytes");
    struct tg_err err = {.msg = ""};
    struct tg_buf *out = tgl_buf_push(L, MAX_BYTES);
    struct tg_compress c;
    tg_compress_init(&c);
    const enum tg_code code =
        tg_compress_decode(&c, TG_ENCODING_SNAPPY, bytes, len, (size_t)max, out, &err);
    tg_compress_deinit(&c);
    return code == TG_OK ? push_buf(L, out) : tgl_fail(L, &err);
}

/* What parsing needs, in a userdata so that an error raised between frees it. */
struct parse {
    struct tg_table *table;
    struct tg_batch batch;
    struct tg_arena arena;
    bool has_batch;
};
static const char parse_meta[] = "tidegate.influx_parse";

static int tgl_parse_gc(lua_State *L)
{
    struct parse *p = luaL_checkudata(L, 1, parse_meta);
    if (p->has_batch) tg_batch_deinit(&p->batch);
    p->has_batch = false;
    tg_arena_deinit(&p->arena);
    tg_table_free(p->table);
    p->table = NULL;
    return 0;
}

static void set_int64(lua_State *L, const char *field, int64_t v)
{
    lua_pushlstring(L, (const char *)&v, sizeof(v));
    lua_setfield(L, -2, field);
}

static void push_point(lua_State *L, struct parse *p, const struct tg_point *point)
{
    struct tg_series_desc d;
    tg_arena_reset(&p->arena);
    if (tg_table_describe(p->table, point->series, &d, &p->arena) != TG_OK)
        (void)luaL_error(L, "out of memory");
    lua_createtable(L, 0, 6);
    lua_pushlstring(L, d.name, d.name_len - d.field_len - 1);
    lua_setfield(L, -2, "measurement");
    lua_pushlstring(L, d.name + d.name_len - d.field_len, d.field_len);
    lua_setfield(L, -2, "field");
    lua_createtable(L, 0, (int)d.n_tags);
    for (uint32_t i = 0; i < d.n_tags; i++) {
        lua_pushlstring(L, d.tags[i].key, d.tags[i].key_len);
        lua_pushlstring(L, d.tags[i].value, d.tags[i].value_len);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "tags");
    set_int64(L, "time8", point->ts_ns);
    switch (point->type) {
    case TG_VALUE_INT64:
        lua_pushliteral(L, "int64");
        lua_setfield(L, -2, "type");
        set_int64(L, "value", point->value.i64);
        return;
    case TG_VALUE_UINT64:
        lua_pushliteral(L, "uint64");
        lua_setfield(L, -2, "type");
        set_int64(L, "value", point->value.i64);
        return;
    case TG_VALUE_BOOL: lua_pushboolean(L, point->value.i64 != 0); break;
    case TG_VALUE_STRING:
        lua_pushlstring(L, point->value.string->ptr, point->value.string->len);
        break;
    default: lua_pushnumber(L, point->value.f64); break;
    }
    lua_setfield(L, -2, "value");
}

static int tgl_influx_parse(lua_State *L)
{
    size_t len;
    size_t precision_len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *precision = luaL_optlstring(L, 2, "ns", &precision_len);
    struct tg_err err = {.msg = "out of memory"};
    int64_t unit_ns;
    if (tg_influx_precision(precision, precision_len, &unit_ns, &err) != TG_OK)
        return tgl_fail(L, &err);
    struct parse *p = lua_newuserdata(L, sizeof(*p));
    memset(p, 0, sizeof(*p));
    if (luaL_newmetatable(L, parse_meta)) {
        lua_pushcfunction(L, tgl_parse_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    tg_arena_init(&p->arena, MAX_BYTES);
    p->table = tg_table_new(&(struct tg_table_config){.max_series = 1 << 20});
    if (!p->table) return tgl_fail(L, &err);
    tg_batch_init(&p->batch, tg_table_guard(p->table), 0, MAX_BYTES);
    p->has_batch = true;
    struct tg_intake d = {.table = p->table,
                          .batch = &p->batch,
                          .arena = &p->arena,
                          .now_ns = tg_clock_wall_ns(),
                          .now_s = tg_clock_coarse_s()};
    if (tg_influx_decode((const uint8_t *)text, len, unit_ns, &d, &err) != TG_OK)
        return tgl_fail(L, &err);
    if (d.n_rejected > 0) return tgl_fail(L, &d.first_reject);
    lua_createtable(L, (int)p->batch.n_points, 0);
    for (uint32_t i = 0; i < p->batch.n_points; i++) {
        push_point(L, p, &p->batch.points[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

int tgl_codec_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"gorilla_encode", tgl_gorilla_encode},   {"gorilla_decode", tgl_gorilla_decode},
        {"delta_encode", tgl_delta_encode},       {"delta_decode", tgl_delta_decode},
        {"dod_encode", tgl_dod_encode},           {"dod_decode", tgl_dod_decode},
        {"snappy_compress", tgl_snappy_compress}, {"snappy_uncompress", tgl_snappy_uncompress},
        {"influx_parse", tgl_influx_parse},       {NULL, NULL},
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
