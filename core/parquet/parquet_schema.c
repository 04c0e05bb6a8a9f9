#include "core/parquet/parquet_schema.h"

#include <string.h>

#include "core/model/point.h"

#define VT(x)  (uint16_t)(1u << TG_VALUE_##x)
#define VT_ALL (uint16_t)(VT(HISTOGRAM) | VT(EXP_HISTOGRAM) | VT(SUMMARY))
#define VT_EXP (uint16_t)(VT(EXP_HISTOGRAM) | VT(FLOAT_HISTOGRAM))
#define LIST(name, type, order, types)                         \
    {                                                          \
        {name, "list", "element"}, 3, type, order, 2, 1, types \
    }
#define OPT(name, type, order, types)                   \
    {                                                   \
        {name, NULL, NULL}, 1, type, order, 1, 0, types \
    }
#define REQ(name, type, order)                      \
    {                                               \
        {name, NULL, NULL}, 1, type, order, 0, 0, 0 \
    }

const struct tg_parquet_column tg_parquet_columns[TG_PARQUET_COLUMNS] = {
    [TG_PARQUET_COLUMN_TIME] = REQ("time", TG_PARQUET_INT64, TG_PARQUET_SIGNED),
    [TG_PARQUET_COLUMN_START] = OPT("start_time", TG_PARQUET_INT64, TG_PARQUET_SIGNED, 0),
    [TG_PARQUET_COLUMN_NAME] = REQ("name", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_BYTES),
    [TG_PARQUET_COLUMN_FIELD] = OPT("field", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_BYTES, 0),
    [TG_PARQUET_COLUMN_KIND] = REQ("kind", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_BYTES),
    [TG_PARQUET_COLUMN_UNIT] = OPT("unit", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_BYTES, 0),
    [TG_PARQUET_COLUMN_TEMPORALITY] =
        OPT("temporality", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_BYTES, 0),
    [TG_PARQUET_COLUMN_TAG_KEY] =
        {{"tags", "key_value", "key"}, 3, TG_PARQUET_BYTE_ARRAY, TG_PARQUET_ORDER_NONE, 1, 1, 0},
    [TG_PARQUET_COLUMN_TAG_VALUE] =
        {{"tags", "key_value", "value"}, 3, TG_PARQUET_BYTE_ARRAY, TG_PARQUET_ORDER_NONE, 1, 1, 0},
    [TG_PARQUET_COLUMN_TAG_ORIGINS] =
        OPT("tag_origins", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_BYTES, 0),
    [TG_PARQUET_COLUMN_VALUE] = OPT("value", TG_PARQUET_DOUBLE, TG_PARQUET_FLOAT, VT(DOUBLE)),
    [TG_PARQUET_COLUMN_VALUE_INT] =
        OPT("value_int", TG_PARQUET_INT64, TG_PARQUET_SIGNED, VT(INT64)),
    [TG_PARQUET_COLUMN_VALUE_UINT] =
        OPT("value_uint", TG_PARQUET_INT64, TG_PARQUET_UNSIGNED, VT(UINT64)),
    [TG_PARQUET_COLUMN_VALUE_BOOL] =
        OPT("value_bool", TG_PARQUET_BOOLEAN, TG_PARQUET_SIGNED, VT(BOOL)),
    [TG_PARQUET_COLUMN_VALUE_STRING] =
        OPT("value_string", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_BYTES, VT(STRING)),
    [TG_PARQUET_COLUMN_COUNT] = OPT("count", TG_PARQUET_INT64, TG_PARQUET_UNSIGNED, VT_ALL),
    [TG_PARQUET_COLUMN_SUM] =
        OPT("sum", TG_PARQUET_DOUBLE, TG_PARQUET_FLOAT, VT_ALL | VT(FLOAT_HISTOGRAM)),
    [TG_PARQUET_COLUMN_MIN] =
        OPT("min", TG_PARQUET_DOUBLE, TG_PARQUET_FLOAT, VT(HISTOGRAM) | VT(EXP_HISTOGRAM)),
    [TG_PARQUET_COLUMN_MAX] =
        OPT("max", TG_PARQUET_DOUBLE, TG_PARQUET_FLOAT, VT(HISTOGRAM) | VT(EXP_HISTOGRAM)),
    [TG_PARQUET_COLUMN_BOUNDS] = LIST("bounds", TG_PARQUET_DOUBLE, TG_PARQUET_ORDER_NONE,
                                      VT(HISTOGRAM) | VT(FLOAT_HISTOGRAM)),
    [TG_PARQUET_COLUMN_BUCKETS] =
        LIST("bucket_counts", TG_PARQUET_INT64, TG_PARQUET_ORDER_NONE, VT(HISTOGRAM)),
    [TG_PARQUET_COLUMN_SCALE] = OPT("scale", TG_PARQUET_INT32, TG_PARQUET_SIGNED, VT_EXP),
    [TG_PARQUET_COLUMN_ZERO_COUNT] =
        OPT("zero_count", TG_PARQUET_INT64, TG_PARQUET_UNSIGNED, VT(EXP_HISTOGRAM)),
    [TG_PARQUET_COLUMN_ZERO_THRESHOLD] =
        OPT("zero_threshold", TG_PARQUET_DOUBLE, TG_PARQUET_FLOAT, VT_EXP),
    [TG_PARQUET_COLUMN_POS_OFFSET] =
        OPT("positive_offset", TG_PARQUET_INT32, TG_PARQUET_SIGNED, VT_EXP),
    [TG_PARQUET_COLUMN_POS_COUNTS] =
        LIST("positive_counts", TG_PARQUET_INT64, TG_PARQUET_ORDER_NONE, VT(EXP_HISTOGRAM)),
    [TG_PARQUET_COLUMN_NEG_OFFSET] =
        OPT("negative_offset", TG_PARQUET_INT32, TG_PARQUET_SIGNED, VT_EXP),
    [TG_PARQUET_COLUMN_NEG_COUNTS] =
        LIST("negative_counts", TG_PARQUET_INT64, TG_PARQUET_ORDER_NONE, VT(EXP_HISTOGRAM)),
    [TG_PARQUET_COLUMN_QUANTILES] =
        LIST("quantiles", TG_PARQUET_DOUBLE, TG_PARQUET_ORDER_NONE, VT(SUMMARY)),
    [TG_PARQUET_COLUMN_QUANTILE_VALUES] =
        LIST("quantile_values", TG_PARQUET_DOUBLE, TG_PARQUET_ORDER_NONE, VT(SUMMARY)),
    [TG_PARQUET_COLUMN_FLAGS] = OPT("flags", TG_PARQUET_INT32, TG_PARQUET_SIGNED, 0),
    [TG_PARQUET_COLUMN_EXEMPLARS] =
        OPT("exemplars", TG_PARQUET_BYTE_ARRAY, TG_PARQUET_ORDER_NONE, 0),
    [TG_PARQUET_COLUMN_COUNT_FLOAT] =
        OPT("count_float", TG_PARQUET_DOUBLE, TG_PARQUET_FLOAT, VT(FLOAT_HISTOGRAM)),
    [TG_PARQUET_COLUMN_ZERO_COUNT_FLOAT] =
        OPT("zero_count_float", TG_PARQUET_DOUBLE, TG_PARQUET_FLOAT, VT(FLOAT_HISTOGRAM)),
    [TG_PARQUET_COLUMN_POS_COUNTS_FLOAT] = LIST("positive_counts_float", TG_PARQUET_DOUBLE,
                                                TG_PARQUET_ORDER_NONE, VT(FLOAT_HISTOGRAM)),
    [TG_PARQUET_COLUMN_NEG_COUNTS_FLOAT] = LIST("negative_counts_float", TG_PARQUET_DOUBLE,
                                                TG_PARQUET_ORDER_NONE, VT(FLOAT_HISTOGRAM)),
};

enum logical { L_NONE, L_STRING, L_MAP, L_LIST, L_TIMESTAMP, L_UINT64 };
enum {
    CONVERTED_NONE = -1,
    CONVERTED_UTF8 = 0,
    CONVERTED_MAP = 1,
    CONVERTED_LIST = 3,
    CONVERTED_UINT_64 = 14
};

struct element { /* SchemaElement */
    const char *name;
    int type;       /* -1 = group */
    int repetition; /* -1 = root */
    int n_children;
    enum logical logical;
};

static enum logical leaf_logical(unsigned id)
{
    const struct tg_parquet_column *c = &tg_parquet_columns[id];
    if (c->type == TG_PARQUET_BYTE_ARRAY) return L_STRING;
    if (id == TG_PARQUET_COLUMN_TIME || id == TG_PARQUET_COLUMN_START) return L_TIMESTAMP;
    if (c->type == TG_PARQUET_INT64 && id != TG_PARQUET_COLUMN_VALUE_INT) return L_UINT64;
    return L_NONE;
}

enum { MAX_ELEMENTS = 1 + 3 * TG_PARQUET_COLUMNS };

/* The elements of the first n_columns in depth-first order, made from the column table. Returns how
 * many. */
static unsigned elements(struct element *e, unsigned n_columns)
{
    unsigned n = 0, top = 0;
    e[n++] = (struct element){"tidegate", -1, -1, 0, L_NONE};
    for (unsigned i = 0; i < n_columns; i++) {
        const struct tg_parquet_column *c = &tg_parquet_columns[i];
        const enum logical l = leaf_logical(i);
        if (i != TG_PARQUET_COLUMN_TAG_VALUE) top++;
        if (i == TG_PARQUET_COLUMN_TAG_KEY) {
            e[n++] = (struct element){"tags", -1, TG_PARQUET_REQUIRED, 1, L_MAP};
            e[n++] = (struct element){"key_value", -1, TG_PARQUET_REPEATED, 2, L_NONE};
        } else if (c->max_rep && i != TG_PARQUET_COLUMN_TAG_VALUE) {
            e[n++] = (struct element){c->path[0], -1, TG_PARQUET_OPTIONAL, 1, L_LIST};
            e[n++] = (struct element){"list", -1, TG_PARQUET_REPEATED, 1, L_NONE};
        }
        const bool optional = c->max_rep == 0 && c->max_def == 1;
        e[n++] = (struct element){c->path[c->n_path - 1], c->type,
                                  optional ? TG_PARQUET_OPTIONAL : TG_PARQUET_REQUIRED, 0, l};
    }
    e[0].n_children = (int)top;
    return n;
}

static int converted(enum logical l)
{
    switch (l) {
    case L_STRING: return CONVERTED_UTF8;
    case L_MAP: return CONVERTED_MAP;
    case L_LIST: return CONVERTED_LIST;
    case L_UINT64: return CONVERTED_UINT_64;
    default: return CONVERTED_NONE; /* nanoseconds have none */
    }
}

static void logical_write(struct tg_thriftw *w, enum logical l)
{
    static const int union_id[] = {0, 1, 2, 3, 8, 10}; /* LogicalType */
    if (l == L_NONE) return;
    tg_thriftw_struct(w, 10);
    tg_thriftw_struct(w, union_id[l]);
    if (l == L_TIMESTAMP) {
        tg_thriftw_bool(w, 1, true); /* isAdjustedToUTC */
        tg_thriftw_struct(w, 2);
        tg_thriftw_struct(w, 3); /* NANOS */
        tg_thriftw_end(w);
        tg_thriftw_end(w);
    } else if (l == L_UINT64) {
        tg_thriftw_i8(w, 1, 64);
        tg_thriftw_bool(w, 2, false); /* isSigned */
    }
    tg_thriftw_end(w);
    tg_thriftw_end(w);
}

void tg_parquet_schema_write(struct tg_thriftw *w, int id)
{
    struct element e[MAX_ELEMENTS];
    const unsigned n = elements(e, TG_PARQUET_COLUMNS);
    tg_thriftw_list(w, id, TG_THRIFT_STRUCT, n);
    for (unsigned i = 0; i < n; i++) {
        tg_thriftw_begin(w);
        if (e[i].type >= 0) tg_thriftw_i32(w, 1, e[i].type);
        if (e[i].repetition >= 0) tg_thriftw_i32(w, 3, e[i].repetition);
        tg_thriftw_str(w, 4, e[i].name);
        if (e[i].type < 0) tg_thriftw_i32(w, 5, e[i].n_children);
        const int conv = converted(e[i].logical);
        if (conv != CONVERTED_NONE) tg_thriftw_i32(w, 6, conv);
        logical_write(w, e[i].logical);
        tg_thriftw_end(w);
    }
}

static bool element_read(struct tg_thriftr *r, const struct element *want)
{
    int id, repetition = -1, n_children = 0, type = -1;
    enum tg_thrift_type t;
    bool same_name = false;
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        size_t len;
        const uint8_t *name;
        switch (id) {
        case 1: type = tg_thriftr_i32(r, t); break;
        case 3: repetition = tg_thriftr_i32(r, t); break;
        case 4:
            name = tg_thriftr_binary(r, t, &len);
            same_name = len == strlen(want->name) && memcmp(name, want->name, len) == 0;
            break;
        case 5: n_children = tg_thriftr_i32(r, t); break;
        default: tg_thriftr_skip(r, t); break;
        }
    }
    return same_name && type == want->type && repetition == want->repetition &&
           n_children == want->n_children;
}

unsigned tg_parquet_schema_read(struct tg_thriftr *r, enum tg_thrift_type type)
{
    struct element e[MAX_ELEMENTS];
    const uint32_t n = tg_thriftr_list(r, type, TG_THRIFT_STRUCT, 10000);
    unsigned n_columns = TG_PARQUET_COLUMNS_1;
    unsigned want = elements(e, n_columns);
    if (n != want) want = elements(e, n_columns = TG_PARQUET_COLUMNS);
    static const struct element none = {"", -2, -2, -2, L_NONE};
    bool same = n == want;
    for (uint32_t i = 0; i < n && !r->failed; i++)
        if (!element_read(r, i < want ? &e[i] : &none)) same = false;
    return same && !r->failed ? n_columns : 0;
}
