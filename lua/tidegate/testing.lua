--- Specs for rules: load a folder of scripts, decide series, say what should have come out.
--
--   local testing = require "tidegate.testing"
--   local rules = testing.load("scripts", { backends = { "archive", "timescale" } })
--   it("sends billing to timescale", function()
--     local plan = rules:decide{ name = "invoices", tags = { team = "billing" } }
--     assert.routed_to(plan, "archive", "timescale")
--   end)
--
-- The rules run in the gateway's own sandbox with its budgets. A rule that fails does not raise: the
-- plan has `failed` and `error`, and every assertion but rule_failed shows the error.

local core = require "tidegate.rules_core"

local testing = {}

local SCRIPTS = { "tags", "routing", "strategy", "retention" }

local exists = core.exists

local function is_absolute(path) return path:sub(1, 1) == "/" end

local function join(dir, path)
  return is_absolute(path) and path or dir .. "/" .. path
end

--- Reads gateway.lua for the names in it; secrets from env() are not needed here.
local function read_gateway(path)
  local chunk, why = loadfile(path)
  if not chunk then error(why, 0) end
  setfenv(chunk, {
    env = function(_, default) return default or "unset" end,
    pairs = pairs, ipairs = ipairs, tostring = tostring, tonumber = tonumber, type = type,
    string = string, table = table, math = math,
  })
  local ok, config = pcall(chunk)
  if not ok then error(tostring(config), 0) end
  if type(config) ~= "table" then error(path .. ": gives no table", 0) end
  return config
end

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = tostring(k) end
  table.sort(keys)
  return keys
end

--- Folder of the file that called the function which calls this.
local function folder_of_caller()
  return debug.getinfo(3, "S").source:match("^@(.*)/[^/]*$") or "."
end

---@class tidegate.Rules
---@field private core userdata
local Rules = {}
Rules.__index = Rules

--- What the rules decide for a series.
-- `series` has name (or measurement and field), and may have kind ("gauge"), unit, tags, and origins
-- (a table from tag to "resource", "scope" or "point").
---@param series table
---@return tidegate.Plan
function Rules:decide(series)
  if type(series) ~= "table" then error("decide{ name = ..., tags = { ... } } takes a series", 2) end
  local plan, why = self.core:decide(series)
  if not plan then error(why, 2) end
  plan.reason = plan.dropped and plan.trace.routing.note:match('^drop%("(.*)"%)$') or nil
  return plan
end

--- Loads the scripts again, as the gateway does on SIGHUP.
---@return true|nil ok
---@return string|nil message
function Rules:reload() return self.core:reload() end

--- Loads the rules in `dir`. One that begins with "." is relative to the spec's own folder (the
-- default is ".."), any other relative one to the working directory.
-- `options.backends` lists the backends' names. Without it they are read from gateway.lua in `dir`;
-- when there is none, the only backend is "archive". `options.on_error` lists where a series goes
-- whose rule failed (default: every backend). A script that does not exist counts as no rule.
---@param dir string|nil
---@param options { backends: string[]|nil, on_error: string[]|nil }|nil
---@return tidegate.Rules
function testing.load(dir, options)
  dir = dir or ".."
  if dir:sub(1, 1) == "." then dir = folder_of_caller() .. "/" .. dir end
  dir = dir:gsub("(.)/+$", "%1")
  options = options or {}
  local files, backends, on_error = {}, options.backends, options.on_error
  local gateway = dir .. "/gateway.lua"
  if exists(gateway) then
    local config = read_gateway(gateway)
    for _, name in ipairs(SCRIPTS) do files[name] = config.rules and config.rules[name] end
    backends = backends or sorted_keys(config.backends or {})
    if not on_error and config.rules and config.rules.on_error then
      on_error = config.rules.on_error
      if type(on_error) == "string" then on_error = { on_error } end
    end
  end
  if not backends or #backends == 0 then backends = { "archive" } end
  local request, found = { backends = backends, on_error = on_error }, false
  for _, name in ipairs(SCRIPTS) do
    local path = join(dir, files[name] or name .. ".lua")
    if exists(path) then
      request[name], found = path, true
    elseif files[name] then
      error(("%s: cannot be read (named in %s)"):format(path, gateway), 2)
    end
  end
  if not found then
    error(("no rules in %s: there is none of tags.lua, routing.lua, strategy.lua, retention.lua"):format(dir), 2)
  end
  local loaded, why = core.load(request)
  if not loaded then error(why, 2) end
  return setmetatable({ core = loaded, backends = backends }, Rules)
end

-- Assertions ---------------------------------------------------------------------------------------

local function quote(v)
  if type(v) == "string" then return ("%q"):format(v) end
  return tostring(v)
end

local function list_text(list)
  if #list == 0 then return "(none)" end
  local out = {}
  for i, v in ipairs(list) do out[i] = tostring(v) end
  return table.concat(out, ", ")
end

local function where(plan, step)
  local t = plan.trace and plan.trace[step]
  if not t then return "" end
  if t.line > 0 then return ("\n  decided by %s:%d: %s"):format(t.file, t.line, t.note) end
  return ("\n  decided by %s: %s"):format(t.file, t.note)
end

local function check_plan(plan, assertion)
  if type(plan) ~= "table" or type(plan.targets) ~= "table" then
    error(("assert.%s takes a plan from rules:decide{ ... } first"):format(assertion), 0)
  end
end

local function failure(plan, step, text)
  if plan.failed then text = text .. "\n  a rule failed: " .. tostring(plan.error) end
  return text .. where(plan, step)
end

local function set_of(list)
  local set = {}
  for _, v in ipairs(list) do set[v] = true end
  return set
end

--- Each check gives: passed, text when it should have passed, text when it should not.
local checks = {}

--- assert.routed_to(plan, "archive", "timescale"): exactly these backends, in any order.
function checks.routed_to(plan, ...)
  local want, got = { ... }, set_of(plan.targets)
  table.sort(want)
  local missing, extra, wanted = {}, {}, set_of(want)
  for _, name in ipairs(want) do if not got[name] then missing[#missing + 1] = name end end
  for _, name in ipairs(plan.targets) do if not wanted[name] then extra[#extra + 1] = name end end
  local text = ("routed to the wrong backends\n  expected: %s\n  got:      %s"):format(
    list_text(want), list_text(plan.targets))
  if #missing > 0 then text = text .. "\n  missing:  " .. list_text(missing) end
  if #extra > 0 then text = text .. "\n  extra:    " .. list_text(extra) end
  local passed = #missing == 0 and #extra == 0 and not plan.failed
  return passed, failure(plan, "routing", text), failure(plan, "routing", "routed to " .. list_text(want))
end

--- assert.tags(plan, { env = "dev" }): exactly these tags.
function checks.tags(plan, want)
  local lines, seen = {}, {}
  for k in pairs(want) do seen[k] = true end
  for k in pairs(plan.tags) do seen[k] = true end
  local same = true
  for _, k in ipairs(sorted_keys(seen)) do
    local w, g = want[k], plan.tags[k]
    w = w ~= nil and tostring(w) or nil
    if w == g then
      lines[#lines + 1] = ("    %s = %s"):format(k, quote(g))
    else
      same = false
      if w ~= nil then lines[#lines + 1] = ("  - %s = %s"):format(k, quote(w)) end
      if g ~= nil then lines[#lines + 1] = ("  + %s = %s"):format(k, quote(g)) end
    end
  end
  local text = "tags differ (- expected, + got)\n" .. table.concat(lines, "\n")
  return same and not plan.failed, failure(plan, "tags", text), failure(plan, "tags", "tags are the same")
end

--- assert.has_tag(plan, "env") or assert.has_tag(plan, "env", "dev").
function checks.has_tag(plan, key, value)
  local got = plan.tags[key]
  local want = value ~= nil and tostring(value) or nil
  local passed = got ~= nil and (want == nil or got == want)
  local text
  if got == nil then
    text = ("no tag %s\n  tags: %s"):format(quote(key), list_text(sorted_keys(plan.tags)))
  else
    text = ("tag %s is wrong\n  expected: %s\n  got:      %s"):format(quote(key), quote(want), quote(got))
  end
  return passed, failure(plan, "tags", text),
    failure(plan, "tags", ("there is a tag %s = %s"):format(quote(key), quote(got)))
end

--- assert.dropped(plan) or assert.dropped(plan, "debug").
function checks.dropped(plan, reason)
  local passed = plan.dropped and (reason == nil or plan.reason == reason) and not plan.failed
  local text
  if plan.dropped then
    text = ("dropped for another reason\n  expected: %s\n  got:      %s"):format(quote(reason), quote(plan.reason))
  else
    text = "not dropped\n  it goes to: " .. list_text(plan.targets)
  end
  return passed, failure(plan, "routing", text), failure(plan, "routing", "dropped")
end

local function duration(text)
  local ms, why = core.duration(tostring(text))
  if not ms then error("assert.keeps: " .. why, 0) end
  return ms
end

--- Sorted "5m for 180d" of both sides, with the milliseconds in front for sorting and comparing.
local function rollup_texts(list)
  local keys, texts = {}, {}
  table.sort(list, function(a, b) return a.every_ms < b.every_ms end)
  for i, r in ipairs(list) do
    keys[i], texts[i] = r.every_ms .. ":" .. r.keep_ms, r.every .. " for " .. r.keep
  end
  return table.concat(keys, " "), list_text(texts)
end

--- assert.keeps(plan, "30d") or assert.keeps(plan, "30d", { ["5m"] = "180d" }); "for ever" for no limit.
-- Durations are compared as such: "1y" is "365d". Without the table, rollups are not looked at.
function checks.keeps(plan, want, rollups)
  local r = plan.retention
  local same
  if want == "for ever" then same = r == nil else same = r ~= nil and r.keep_ms == duration(want) end
  local got = r and r.keep or "for ever"
  local text = ("kept for another time\n  expected: %s\n  got:      %s"):format(tostring(want), got)
  if rollups ~= nil then
    local wanted = {}
    for every, keep in pairs(rollups) do
      wanted[#wanted + 1] = { every = every, keep = keep, every_ms = duration(every), keep_ms = duration(keep) }
    end
    local want_keys, want_text = rollup_texts(wanted)
    local got_keys, got_text = rollup_texts(r and r.rollups or {})
    same = same and want_keys == got_keys
    text = text .. ("\n  rollups expected: %s\n  rollups got:      %s"):format(want_text, got_text)
  end
  return same and not plan.failed, failure(plan, "retention", text), failure(plan, "retention", "kept for " .. got)
end

--- assert.strategy(plan, "all"): "logged", "all", "primary_only" or "primary_with_async_replication".
function checks.strategy(plan, name)
  local text = ("another strategy\n  expected: %s\n  got:      %s"):format(tostring(name), plan.strategy)
  return plan.strategy == name and not plan.failed, failure(plan, "strategy", text),
    failure(plan, "strategy", "the strategy is " .. plan.strategy)
end

--- assert.waits_for(plan, "timescale"): exactly the backends whose confirmation an acknowledgement waits for.
function checks.waits_for(plan, ...)
  local want = { ... }
  table.sort(want)
  local got = { unpack(plan.wait) }
  table.sort(got)
  local text = ("waits for other backends\n  expected: %s\n  got:      %s"):format(list_text(want), list_text(got))
  return list_text(want) == list_text(got) and not plan.failed, failure(plan, "strategy", text),
    failure(plan, "strategy", "waits for " .. list_text(got))
end

--- assert.decided_by(plan, "routing", "routing.lua", 12): the line that decided; the line may be left out.
function checks.decided_by(plan, step, file, line)
  local t = plan.trace[step]
  if not t then error("assert.decided_by: there is no rule called " .. quote(step), 0) end
  local want = line and file .. ":" .. line or file
  local got = line and t.file .. ":" .. t.line or t.file
  return want == got, failure(plan, step, ("decided elsewhere\n  expected: %s\n  got:      %s"):format(want, got)),
    failure(plan, step, "decided by " .. got)
end

--- assert.rule_failed(plan) or assert.rule_failed(plan, "nil value"): a rule failed, with this in its error.
function checks.rule_failed(plan, text)
  local passed = plan.failed and (text == nil or tostring(plan.error):find(text, 1, true) ~= nil)
  local message = plan.failed
    and ("a rule failed otherwise\n  expected: %s\n  got:      %s"):format(quote(text), tostring(plan.error))
    or "no rule failed"
  return passed, message, "a rule failed: " .. tostring(plan.error)
end

--- Registers the assertions with luassert; done when this module is loaded inside busted.
function testing.register(assert_object)
  local say = require "say"
  say:set("tidegate.assertion", "%s")
  for name, check in pairs(checks) do
    assert_object:register("assertion", name, function(_, arguments)
      check_plan(arguments[1], name)
      local passed, positive, negative = check(unpack(arguments, 1, arguments.n))
      -- luassert formats the arguments into the message: hand it the finished text as the only one.
      arguments[1], arguments.n, arguments.nofmt = passed and negative or positive, 1, { true }
      return passed and true or false
    end, "tidegate.assertion", "tidegate.assertion")
  end
end

local has_luassert, luassert = pcall(require, "luassert")
if has_luassert then testing.register(luassert) end

return testing
