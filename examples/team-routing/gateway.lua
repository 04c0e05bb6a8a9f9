return {
  listen = { http = env("TIDEGATE_HTTP", "127.0.0.1:4318"), admin = env("TIDEGATE_ADMIN", "127.0.0.1:4320") },
  log = { dir = "data/log", sync = "always", max_bytes = "1GiB" },
  rules = { tags = "tags.lua", routing = "routing.lua", strategy = "strategy.lua", retention = "retention.lua" },
  backends = {
    archive = { type = "parquet", dir = "data/archive", linger = "500ms" },
    -- Put the billing team's database here, e.g. { type = "influxdb", url = ..., bucket = ..., token = env("TOKEN") }
    billing = { type = "parquet", dir = "data/billing", linger = "500ms" },
  },
}
