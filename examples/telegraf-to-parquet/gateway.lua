-- Telegraf side:
--   [[outputs.influxdb]]
--     urls = ["http://127.0.0.1:4318"]
--     skip_database_creation = true
return {
  listen = { http = env("TIDEGATE_HTTP", "127.0.0.1:4318"), admin = env("TIDEGATE_ADMIN", "127.0.0.1:4320") },
  log = { dir = "data/log", sync = "always", max_bytes = "1GiB" },
  backends = {
    archive = { type = "parquet", dir = "data/parquet", compression = "zstd", linger = "500ms" },
  },
}
