-- luacheck .   (Debian: lua-check)
std = "luajit"
max_line_length = 120
exclude_files = { "build", "data" }

local rule_globals = {
  "to", "drop", "logged", "all", "primary_only", "primary_with_async_replication", "keep", "hash",
}
-- Rules: a function of the series that may leave its arguments unused.
for _, folder in ipairs({ "scripts/*.lua", "examples/**/*.lua", "tests/lua/rules/**/*.lua" }) do
  files[folder] = { read_globals = rule_globals, ignore = { "212/series", "212/targets" } }
end
for _, name in ipairs({ "scripts/gateway.lua", "**/gateway.lua" }) do
  files[name] = { read_globals = { "env" } }
end
files["**/*_spec.lua"] = { std = "luajit+busted" }
-- Annotations only: it defines the names that rules have.
files["lua/tidegate/types.lua"] = { globals = rule_globals, ignore = { "212" } }
