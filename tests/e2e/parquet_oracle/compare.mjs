// Compares every DIR/<case>.parquet, as DuckDB and hyparquet read it, with the points that were put in
// (DIR/<case>.jsonl, from parquet_oracle_write), row by row and bit by bit.
//
//   node compare.mjs DIR      exit 1 when a row differs; prints a line per case and reader
//
// Cases whose name begins with "times" hold times outside of what DuckDB's microseconds can show: hyparquet only.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { lines, readers } from "./read.mjs";

const micros = (ns) => (ns === null ? null : ((BigInt(ns) / 1000n) * 1000n).toString());
const quiet = (v) => {
  const is_nan = (BigInt("0x" + v) & 0x7fffffffffffffffn) > 0x7ff0000000000000n;
  return is_nan ? (BigInt("0x" + v) | 0x0008000000000000n).toString(16).padStart(16, "0") : v;
};
const doubles = ["value", "sum", "min", "max", "zero_threshold"];

// What is left of a row after the limits of the reader (see read.mjs).
const seen = {
  duckdb: (row) => ({ ...row, time: micros(row.time), start_time: micros(row.start_time) }),
  hyparquet: (row) => {
    const out = { ...row };
    for (const name of doubles) if (out[name] !== null) out[name] = quiet(out[name]);
    return out;
  },
};

const dir = process.argv[2];
let failed = 0;
let compared = 0;
for (const file of readdirSync(dir).filter((f) => f.endsWith(".parquet")).sort()) {
  const name = file.slice(0, -".parquet".length);
  const points = readFileSync(join(dir, name + ".jsonl"), "utf8").trimEnd().split("\n").map((l) => JSON.parse(l));
  for (const reader of Object.keys(readers)) {
    if (reader === "duckdb" && name.startsWith("times")) continue;
    const want = points.map((row) => JSON.stringify(seen[reader](row))).sort();
    const got = [];
    for await (const line of lines(reader, true, join(dir, file))) got.push(JSON.stringify(seen[reader](JSON.parse(line))));
    got.sort();
    const first = want.findIndex((row, i) => row !== got[i]);
    const ok = want.length === got.length && first < 0;
    console.log(`${ok ? "equal" : "DIFFERENT"} ${name} ${reader} ${got.length} rows`);
    compared++;
    if (ok) continue;
    failed++;
    console.log(`  put in: ${want[first]}\n  read:   ${got[first]}`);
  }
}
process.exitCode = failed || compared === 0 ? 1 : 0;
