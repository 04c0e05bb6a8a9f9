local testing = require "tidegate.testing"

local folders = {}

--- Writes scripts into a fresh folder and loads them.
local function rules_of(scripts, options)
  local dir = os.tmpname()
  os.remove(dir)
  assert(os.execute("mkdir -p " .. dir) == 0)
  folders[#folders + 1] = dir
  for name, text in pairs(scripts) do
    local f = assert(io.open(dir .. "/" .. name, "w"))
    f:write(text)
    f:close()
  end
  return testing.load(dir, options), dir
end

local function message_of(f, ...)
  local ok, why = pcall(f, ...)
  assert.is_false(ok)
  return type(why) == "table" and tostring(why.message or why) or tostring(why)
end

teardown(function()
  for _, dir in ipairs(folders) do os.execute("rm -r " .. dir) end
end)

describe("testing.load", function()
  it("reads the backends from gateway.lua", function()
    local rules = rules_of{
      ["gateway.lua"] = 'return { rules = { routing = "r.lua" }, backends = { b = {}, a = { token = env("X") } } }',
      ["r.lua"] = 'return function() return to("a", "b") end',
    }
    assert.same({ "a", "b" }, rules.backends)
    assert.routed_to(rules:decide{ name = "m" }, "a", "b")
  end)

  it("takes the backends it is given", function()
    local rules = rules_of({ ["tags.lua"] = "return function() end" }, { backends = { "x", "y" } })
    assert.routed_to(rules:decide{ name = "m" }, "y", "x")
  end)

  it("says file, line and reason of a script that does not load", function()
    assert.matches("routing.lua:2: .*expected", message_of(rules_of, { ["routing.lua"] = "\nreturn function(" }))
  end)

  it("says when there are no rules", function()
    assert.matches("no rules in /nowhere", message_of(testing.load, "/nowhere"))
  end)

  it("says which named script is missing", function()
    assert.matches("x.lua: cannot be read", message_of(rules_of, {
      ["gateway.lua"] = 'return { rules = { tags = "x.lua" }, backends = { a = {} } }' }))
  end)

  it("loads again on demand", function()
    local rules, dir = rules_of{ ["retention.lua"] = 'return function() return keep("1d") end' }
    local function write(text)
      local f = assert(io.open(dir .. "/retention.lua", "w"))
      f:write(text)
      f:close()
    end
    write("return 5")
    local ok, why = rules:reload()
    assert.is_nil(ok)
    assert.matches("retention.lua", why)
    assert.keeps(rules:decide{ name = "m" }, "1d")
    write('return function() return keep("2d") end')
    assert.is_true(rules:reload())
    assert.keeps(rules:decide{ name = "m" }, "48h")
  end)
end)

describe("a plan", function()
  local plan

  before_each(function()
    local rules = rules_of({
      ["tags.lua"] = "return function(s)\n  s.tags.env = 'dev'\n  s.tags.old = nil\nend",
      ["routing.lua"] = "return function(s)\n  if s.name == 'debug' then return drop('noise') end\n" ..
        "  if s.name == 'bad' then return to('nowhere' .. '') end\n  return to('b', 'a')\nend",
      ["strategy.lua"] = "return function(_, t) return primary_with_async_replication(t[1]) end",
      ["retention.lua"] = "return function() return keep('30d', { ['1h'] = '1y', ['5m'] = '180d' }) end",
    }, { backends = { "a", "b", "c" } })
    plan = function(name) return rules:decide{ name = name, tags = { old = "x", team = "t" } } end
  end)

  it("has everything that was decided", function()
    local p = plan("m")
    assert.same({ env = "dev", team = "t" }, p.tags)
    assert.same({ "a", "b" }, p.targets)
    assert.same({ "b" }, p.wait)
    assert.is_false(p.dropped)
    assert.equal("primary_with_async_replication", p.strategy)
    assert.equal("30d", p.retention.keep)
    assert.same({ "5m", "1h" }, { p.retention.rollups[1].every, p.retention.rollups[2].every })
    assert.same({ file = "routing.lua", line = 4, note = 'to("b", "a")' }, p.trace.routing)
    assert.equal("env added (line 2), old removed (line 3)", p.trace.tags.note)
    assert.is_false(p.failed)
  end)

  it("has the reason of a drop", function()
    local p = plan("debug")
    assert.is_true(p.dropped)
    assert.equal("noise", p.reason)
  end)

  it("has the error of a rule that failed", function()
    local p = plan("bad")
    assert.is_true(p.failed)
    assert.matches('routing.lua:3: to%(%): no backend is called "nowhere"', p.error)
  end)

  it("refuses what is not a series", function()
    local rules = rules_of{ ["tags.lua"] = "return function() end" }
    assert.matches("needs a name", message_of(rules.decide, rules, {}))
    assert.matches("takes a series", message_of(rules.decide, rules, "m"))
    assert.matches("kind x is not one of", message_of(rules.decide, rules, { name = "m", kind = "x" }))
    assert.matches("tags are texts", message_of(rules.decide, rules, { name = "m", tags = { a = {} } }))
  end)
end)

describe("assertions", function()
  local rules

  before_each(function()
    rules = rules_of({
      ["routing.lua"] = "return function(s)\n  if s.name == 'debug' then return drop('noise') end\n" ..
        "  if s.name == 'bad' then local x = s.tags.none.x return x end\n  return to('a', 'b')\nend",
      ["strategy.lua"] = "return function() return all() end",
      ["retention.lua"] = "return function() return keep('365d', { ['1h'] = '5y' }) end",
    }, { backends = { "a", "b", "c" } })
  end)

  local function series(name) return rules:decide{ name = name or "m", tags = { env = "dev", n = 5 } } end

  it("pass, and their negations", function()
    local p = series()
    assert.routed_to(p, "b", "a")
    assert.not_routed_to(p, "a")
    assert.tags(p, { env = "dev", n = 5 })
    assert.not_tags(p, { env = "dev" })
    assert.has_tag(p, "env")
    assert.has_tag(p, "env", "dev")
    assert.not_has_tag(p, "env", "prod")
    assert.not_dropped(p)
    assert.keeps(p, "1y")
    assert.keeps(p, "1y", { ["60m"] = "1825d" })
    assert.not_keeps(p, "1y", {})
    assert.not_keeps(p, "for ever")
    assert.strategy(p, "all")
    assert.waits_for(p, "a", "b")
    assert.decided_by(p, "routing", "routing.lua", 4)
    assert.not_rule_failed(p)
    assert.dropped(series("debug"))
    assert.dropped(series("debug"), "noise")
    assert.rule_failed(series("bad"), "nil value")
  end)

  it("show the difference in targets, and the line", function()
    local why = message_of(assert.routed_to, series(), "a", "c")
    assert.matches("expected: a, c", why)
    assert.matches("got:      a, b", why)
    assert.matches("missing:  c", why)
    assert.matches("extra:    b", why)
    assert.matches('decided by routing.lua:4: to%("a", "b"%)', why)
  end)

  it("show the difference in tags", function()
    local why = message_of(assert.tags, series(), { env = "prod", gone = "x", n = 5 })
    assert.matches('%- env = "prod"\n  %+ env = "dev"', why)
    assert.matches('%- gone = "x"', why)
    assert.matches('    n = "5"', why)
  end)

  it("show the other differences", function()
    assert.matches('no tag "x"\n  tags: env, n', message_of(assert.has_tag, series(), "x"))
    assert.matches('got:      "dev"', message_of(assert.has_tag, series(), "env", "prod"))
    assert.matches("not dropped\n  it goes to: a, b", message_of(assert.dropped, series()))
    assert.matches('got:      "noise"', message_of(assert.dropped, series("debug"), "other"))
    assert.matches("expected: 30d\n  got:      365d", message_of(assert.keeps, series(), "30d"))
    assert.matches("rollups got:      1h for 1825d", message_of(assert.keeps, series(), "1y", {}))
    assert.matches("is not a duration such as", message_of(assert.keeps, series(), "a while"))
    assert.matches("expected: logged\n  got:      all", message_of(assert.strategy, series(), "logged"))
    assert.matches("expected: %(none%)\n  got:      a, b", message_of(assert.waits_for, series()))
    assert.matches("expected: routing.lua:9", message_of(assert.decided_by, series(), "routing", "routing.lua", 9))
    assert.matches("no rule failed", message_of(assert.rule_failed, series()))
  end)

  it("show the error when a rule failed", function()
    assert.matches("a rule failed: routing.lua:3: attempt to index", message_of(assert.routed_to, series("bad"), "a"))
  end)

  it("want a plan", function()
    assert.matches("takes a plan", message_of(assert.routed_to, "a"))
  end)
end)
