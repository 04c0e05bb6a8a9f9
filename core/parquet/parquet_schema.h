/* parquet_schema.h: the one schema of Tidegate's Parquet files, and the numbers of the format.
 *
 * Every kind of point has the same columns; those it does not use are null and cost nothing.
 *
 *   message tidegate {
 *     required int64 time (TIMESTAMP(NANOS,UTC))     required binary name (STRING)
 *     optional int64 start_time (TIMESTAMP(...))     optional binary field (STRING)  Influx field
 *     required binary kind (STRING)                  optional binary unit, temporality (STRING)
 *     required group tags (MAP) { repeated group key_value { required key, value (STRING) } }
 *     optional binary tag_origins (STRING)           one of p, s, r per tag; null = all p
 *     optional double value; int64 value_int; uint64 value_uint; boolean value_bool
 *     optional binary value_string (STRING)
 *     optional uint64 count; double sum, min, max    all histograms, and summaries
 *     optional lists bounds (double), bucket_counts (uint64)              histograms
 *     optional int32 scale; uint64 zero_count; double zero_threshold      exponential histograms
 *     optional int32 positive_offset, negative_offset
 *     optional lists positive_counts, negative_counts (uint64)
 *     optional lists quantiles, quantile_values (double)                  summaries
 *     optional int32 flags                           null = 0
 *     optional binary exemplars (STRING)             JSON, parquet_json.h
 *     optional double count_float, zero_count_float                       float histograms, which
 *     optional lists positive_counts_float, negative_counts_float (double)   files of schema 1 lack
 *   }
 *
 * The type of a value is told by which column is not null: value, value_int, value_uint,
 * value_bool, value_string, count_float, bounds, scale, quantiles; none of them = no recorded value
 * (flags has 1: the series ended), or, without that flag, exemplars that came without a value.
 *
 * Float histograms have buckets as exponential histograms, or, with scale -53, between `bounds`.
 * flags: 1 no recorded value; 2, 4 and 6 the reset hint of a native histogram: yes, no, gauge.
 *
 * Source: apache/parquet-format, parquet.thrift and LogicalTypes.md.
 *
 * Threading: constant data.
 */
#ifndef TG_PARQUET_PARQUET_SCHEMA_H
#define TG_PARQUET_PARQUET_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "core/parquet/thrift.h"

enum tg_parquet_type {
    TG_PARQUET_BOOLEAN = 0,
    TG_PARQUET_INT32 = 1,
    TG_PARQUET_INT64 = 2,
    TG_PARQUET_DOUBLE = 5,
    TG_PARQUET_BYTE_ARRAY = 6,
};
enum tg_parquet_encoding {
    TG_PARQUET_PLAIN = 0,
    TG_PARQUET_RLE = 3,
    TG_PARQUET_DELTA_BINARY_PACKED = 5,
    TG_PARQUET_RLE_DICTIONARY = 8,
};
enum tg_parquet_codec { TG_PARQUET_UNCOMPRESSED = 0, TG_PARQUET_SNAPPY = 1, TG_PARQUET_ZSTD = 6 };
enum tg_parquet_page_type { TG_PARQUET_DATA_PAGE = 0, TG_PARQUET_DICTIONARY_PAGE = 2 };
enum tg_parquet_repetition {
    TG_PARQUET_REQUIRED = 0,
    TG_PARQUET_OPTIONAL = 1,
    TG_PARQUET_REPEATED = 2
};

/* How the values of a column are compared for its statistics. */
enum tg_parquet_order {
    TG_PARQUET_ORDER_NONE,
    TG_PARQUET_SIGNED,
    TG_PARQUET_UNSIGNED,
    TG_PARQUET_FLOAT,
    TG_PARQUET_BYTES
};

enum tg_parquet_column_id {
    TG_PARQUET_COLUMN_TIME,
    TG_PARQUET_COLUMN_START,
    TG_PARQUET_COLUMN_NAME,
    TG_PARQUET_COLUMN_FIELD,
    TG_PARQUET_COLUMN_KIND,
    TG_PARQUET_COLUMN_UNIT,
    TG_PARQUET_COLUMN_TEMPORALITY,
    TG_PARQUET_COLUMN_TAG_KEY,
    TG_PARQUET_COLUMN_TAG_VALUE,
    TG_PARQUET_COLUMN_TAG_ORIGINS,
    TG_PARQUET_COLUMN_VALUE,
    TG_PARQUET_COLUMN_VALUE_INT,
    TG_PARQUET_COLUMN_VALUE_UINT,
    TG_PARQUET_COLUMN_VALUE_BOOL,
    TG_PARQUET_COLUMN_VALUE_STRING,
    TG_PARQUET_COLUMN_COUNT,
    TG_PARQUET_COLUMN_SUM,
    TG_PARQUET_COLUMN_MIN,
    TG_PARQUET_COLUMN_MAX,
    TG_PARQUET_COLUMN_BOUNDS,
    TG_PARQUET_COLUMN_BUCKETS,
    TG_PARQUET_COLUMN_SCALE,
    TG_PARQUET_COLUMN_ZERO_COUNT,
    TG_PARQUET_COLUMN_ZERO_THRESHOLD,
    TG_PARQUET_COLUMN_POS_OFFSET,
    TG_PARQUET_COLUMN_POS_COUNTS,
    TG_PARQUET_COLUMN_NEG_OFFSET,
    TG_PARQUET_COLUMN_NEG_COUNTS,
    TG_PARQUET_COLUMN_QUANTILES,
    TG_PARQUET_COLUMN_QUANTILE_VALUES,
    TG_PARQUET_COLUMN_FLAGS,
    TG_PARQUET_COLUMN_EXEMPLARS,
    TG_PARQUET_COLUMNS_1, /* what files of schema 1 have; new columns come after the others */
    TG_PARQUET_COLUMN_COUNT_FLOAT = TG_PARQUET_COLUMNS_1,
    TG_PARQUET_COLUMN_ZERO_COUNT_FLOAT,
    TG_PARQUET_COLUMN_POS_COUNTS_FLOAT,
    TG_PARQUET_COLUMN_NEG_COUNTS_FLOAT,
    TG_PARQUET_COLUMNS
};

struct tg_parquet_column {
    const char *path[3]; /* path_in_schema */
    uint8_t n_path;
    uint8_t type;  /* enum tg_parquet_type */
    uint8_t order; /* enum tg_parquet_order */
    uint8_t max_def, max_rep;
    uint16_t
        value_types; /* bit per enum tg_value_type that may fill it; 0 = not told by the type */
};
extern const struct tg_parquet_column tg_parquet_columns[TG_PARQUET_COLUMNS];

/* Writes field `id` of FileMetaData: the list of schema elements. */
void tg_parquet_schema_write(struct tg_thriftw *w, int id);
/* Reads that list (its header included) and returns how many of the columns there are:
 * TG_PARQUET_COLUMNS, or TG_PARQUET_COLUMNS_1 in an older file. 0 when it is well formed but not
 * this schema; a malformed one shows in r->failed. */
unsigned tg_parquet_schema_read(struct tg_thriftr *r, enum tg_thrift_type type);

#endif
