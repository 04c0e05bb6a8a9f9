// Reads Parquet files of the gateway with an independent reader and prints one line of JSON per row,
// all values exact: doubles as the 16 hex digits of their bits, integers as decimal strings, strings
// as hex of their UTF-8 bytes. The C side prints its points the same way.
//
//   node read.mjs duckdb|hyparquet FILE...

const doubles = new DataView(new ArrayBuffer(8));
const f64 = (v) => {
  if (v === null || v === undefined) return null;
  doubles.setFloat64(0, v);
  return doubles.getBigUint64(0).toString(16).padStart(16, "0");
};
const int = (v) => (v === null || v === undefined ? null : BigInt(v).toString());
const hex = (v) => (v === null || v === undefined ? null : Buffer.from(v).toString("hex"));
const flag = (v) => (v === null || v === undefined ? null : v ? "1" : "0");
const list = (each) => (v) => (v === null || v === undefined ? null : Array.from(v, each));
const tags = (v) => v.map(([key, value]) => ({ k: hex(key), v: hex(value) }));

// in the order in which the C side prints them
const columns = {
  time: int, start_time: int, name: hex, field: hex, kind: hex, unit: hex, temporality: hex, tags, tag_origins: hex,
  value: f64, value_int: int, value_uint: int, value_bool: flag, value_string: hex,
  count: int, sum: f64, min: f64, max: f64, bounds: list(f64), bucket_counts: list(int),
  scale: int, zero_count: int, zero_threshold: f64, positive_offset: int, positive_counts: list(int),
  negative_offset: int, negative_counts: list(int), quantiles: list(f64), quantile_values: list(f64),
  flags: int, exemplars: hex,
};

const line = (row) =>
  JSON.stringify(Object.fromEntries(Object.entries(columns).map(([name, form]) => [name, form(row[name])]))) + "\n";

async function duckdb(path) {
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const connection = await (await DuckDBInstance.create(":memory:")).connect();
  // DuckDB has no zoned nanoseconds: it reads TIMESTAMP(NANOS, UTC) as TIMESTAMP_NS or as TIMESTAMPTZ of whole
  // microseconds, so the columns are read as the integers they are (epoch_ns)
  const described = await connection.runAndReadAll(`DESCRIBE SELECT * FROM read_parquet('${path}')`);
  const types = Object.fromEntries(described.getRows().map(([name, type]) => [name, type]));
  if (process.env.ORACLE_DEBUG) console.error(types);
  const reader = await connection.runAndReadAll(`SELECT * FROM read_parquet('${path}')`);
  const names = reader.columnNames();
  const rows = [];
  for (const values of reader.getRows()) {
    const row = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    for (const name of ["time", "start_time"]) {
      const v = row[name];
      if (v === null) continue;
      row[name] = v.nanos ?? (v.nanoseconds ?? (v.micros ?? v.microseconds) * 1000n);
    }
    row.tags = row.tags.entries.map(({ key, value }) => [key, value]);
    for (const [name, v] of Object.entries(row)) if (v && v.items) row[name] = v.items;
    rows.push(row);
  }
  return rows;
}

async function hyparquet(path) {
  const { asyncBufferFromFile, parquetReadObjects } = await import("hyparquet");
  const { compressors } = await import("hyparquet-compressors");
  const file = await asyncBufferFromFile(path);
  const raw = (v) => v; // times as the integers they are
  const rows = await parquetReadObjects({
    file, compressors,
    parsers: {
      timestampFromMilliseconds: raw, timestampFromMicroseconds: raw, timestampFromNanoseconds: raw,
      dateFromDays: raw, stringFromBytes: (bytes) => bytes && Buffer.from(bytes),
    },
  });
  for (const row of rows) {
    row.tags = Array.isArray(row.tags)
      ? row.tags.map((t) => (Array.isArray(t) ? t : [t.key, t.value]))
      : Object.entries(row.tags ?? {});
  }
  return rows;
}

const readers = { duckdb, hyparquet };
const [which, ...paths] = process.argv.slice(2);
if (!readers[which] || paths.length === 0) {
  console.error("usage: node read.mjs duckdb|hyparquet FILE...");
  process.exit(2);
}
for (const path of paths) {
  for (const row of await readers[which](path)) process.stdout.write(line(row));
}
