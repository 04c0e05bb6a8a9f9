// Reads the gateway's Parquet files with an independent reader and prints one line of JSON per row.
//
//   node read.mjs [--reader duckdb|hyparquet] [--exact] FILE...
//
// Plain form: strings as they are, tags as an object, integers as decimal strings, doubles as numbers. With --exact all
// is comparable byte by byte: doubles as the 16 hex digits of their bits, strings as hex of their bytes, tags in order.
//
// What the readers cannot show: DuckDB reads TIMESTAMP(NANOS, UTC) as TIMESTAMPTZ of whole microseconds (cut towards
// zero); hyparquet gives doubles as JavaScript numbers, in which a signalling NaN becomes a quiet one.
import { pathToFileURL } from "node:url";

const view = new DataView(new ArrayBuffer(8));
const none = (v) => v === null || v === undefined;
const bits = (v) => {
  view.setFloat64(0, v);
  return view.getBigUint64(0).toString(16).padStart(16, "0");
};
const text = (v) => (typeof v === "string" ? v : Buffer.from(v).toString("utf8"));
const hex = (v) => Buffer.from(v).toString("hex");
const int = (v) => BigInt(v).toString();
const list = (each) => (v) => Array.from(v, each);

const forms = {
  plain: { int, f64: (v) => v, str: text, bool: (v) => v,
    tags: (v) => Object.fromEntries(v.map(([k, x]) => [text(k), text(x)])) },
  exact: { int, f64: bits, str: hex, bool: (v) => (v ? "1" : "0"),
    tags: (v) => v.map(([k, x]) => ({ k: hex(k), v: hex(x) })) },
};

// In the order in which the C side prints them.
const columns = (f) => ({
  time: f.int, start_time: f.int, name: f.str, field: f.str, kind: f.str, unit: f.str, temporality: f.str, tags: f.tags,
  tag_origins: f.str, value: f.f64, value_int: f.int, value_uint: f.int, value_bool: f.bool, value_string: f.str,
  count: f.int, sum: f.f64, min: f.f64, max: f.f64, bounds: list(f.f64), bucket_counts: list(f.int),
  scale: f.int, zero_count: f.int, zero_threshold: f.f64, positive_offset: f.int, positive_counts: list(f.int),
  negative_offset: f.int, negative_counts: list(f.int), quantiles: list(f.f64), quantile_values: list(f.f64),
  flags: f.int, exemplars: f.str, count_float: f.f64, zero_count_float: f.f64,
  positive_counts_float: list(f.f64), negative_counts_float: list(f.f64),
});

const times = ["time", "start_time"];

async function duckdb(path) {
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  const reader = await connection.runAndReadAll(`SELECT * FROM read_parquet('${path.replaceAll("'", "''")}')`);
  const names = reader.columnNames();
  const rows = reader.getRows().map((values) => {
    const row = Object.fromEntries(names.map((name, i) => [name, values[i]?.items ?? values[i]]));
    for (const name of times) if (!none(row[name])) row[name] = row[name].micros * 1000n;
    row.tags = row.tags.entries.map(({ key, value }) => [key, value]);
    return row;
  });
  connection.closeSync();
  instance.closeSync();
  return rows;
}

async function hyparquet(path) {
  const { asyncBufferFromFile, parquetReadObjects } = await import("hyparquet");
  const { compressors } = await import("hyparquet-compressors");
  const same = (v) => v; // times as the integers they are, strings as their bytes
  const rows = await parquetReadObjects({
    file: await asyncBufferFromFile(path),
    compressors,
    parsers: {
      timestampFromMilliseconds: same, timestampFromMicroseconds: same, timestampFromNanoseconds: same,
      dateFromDays: same, stringFromBytes: (bytes) => bytes && Buffer.from(bytes),
    },
  });
  for (const row of rows) {
    row.tags = Array.isArray(row.tags)
      ? row.tags.map((t) => (Array.isArray(t) ? t : [t.key, t.value]))
      : Object.entries(row.tags ?? {});
  }
  return rows;
}

export const readers = { duckdb, hyparquet };

export async function* lines(reader, exact, path) {
  const form = columns(exact ? forms.exact : forms.plain);
  for (const row of await readers[reader](path)) {
    const out = {};
    for (const [name, of] of Object.entries(form)) out[name] = none(row[name]) ? null : of(row[name]);
    yield JSON.stringify(out);
  }
}

async function main(args) {
  let reader = "duckdb";
  let exact = false;
  const paths = [];
  while (args.length) {
    const arg = args.shift();
    if (arg === "--reader") reader = args.shift();
    else if (arg === "--exact") exact = true;
    else paths.push(arg);
  }
  if (!readers[reader] || paths.length === 0) {
    console.error("usage: node read.mjs [--reader duckdb|hyparquet] [--exact] FILE...");
    return 2;
  }
  for (const path of paths) for await (const line of lines(reader, exact, path)) process.stdout.write(line + "\n");
  return 0;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = await main(process.argv.slice(2));
