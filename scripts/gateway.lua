-- The gateway's settings. Copy this folder, edit it, and see what it means: tidegate check
-- All keys, with defaults and limits: docs/configuration.md. Relative paths are relative to this file.
-- Secrets come from the environment: env("NAME"), or env("NAME", "default").
return {
  listen = {
    http = "127.0.0.1:4318", -- OTLP (/v1/metrics), remote write (/api/v1/write), Influx lines (/write, /api/v2/write)
    admin = "127.0.0.1:4320", -- status page, metrics, query, reload: keep it private
  },

  -- Everything is written here before it is acknowledged, and delivered from here.
  log = { dir = "../data/log", sync = "always", max_bytes = "4GiB" },

  -- What your rules say about each series. Edit them while the gateway runs, then: kill -HUP, or POST /-/reload.
  rules = {
    tags = "tags.lua",
    routing = "routing.lua",
    strategy = "strategy.lua",
    retention = "retention.lua",
  },

  limits = { series = 1000000, body = "64MiB" },

  dead_letters = { dir = "../data/dead" },

  backends = {
    -- Parquet files in a folder, by date: needs no server, and DuckDB, Polars or Spark read them.
    archive = { type = "parquet", dir = "../data/parquet" },

    -- influx = { type = "influxdb", url = "http://127.0.0.1:8086", org = "my-org", bucket = "otlp",
    --            token = env("INFLUX_TOKEN") },
    -- prom = { type = "prometheus", url = "http://127.0.0.1:9090/api/v1/write" },
  },
}
