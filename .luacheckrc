std = "luajit+busted"
max_line_length = 120
codes = true

-- What the gateway gives to rules and to its configuration.
local rules = {
  "all", "drop", "hash", "keep", "logged", "primary_only", "primary_with_async_replication", "to",
}
files["scripts"] = { read_globals = rules }
files["examples"] = { read_globals = rules }
files["tests"] = { read_globals = rules }
files["**/gateway.lua"] = { read_globals = { "env" } }
