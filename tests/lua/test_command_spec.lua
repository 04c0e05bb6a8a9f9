-- `tidegate test` itself: this spec runs in it and starts it again on small folders.

describe("tidegate test", function()
  local stat = assert(io.open("/proc/self/stat"))
  local program = "/proc/" .. stat:read("*n") .. "/exe"
  stat:close()

  --- Runs the command on a folder with these files (and a FIFO); gives the exit code and the output.
  local function run(files, arguments, fifo)
    local dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir -p " .. dir .. (files["spec/a_spec.lua"] and "/spec" or ""))
    for name, text in pairs(files) do
      local f = assert(io.open(dir .. "/" .. name, "w"))
      f:write(text)
      f:close()
    end
    if fifo then os.execute("mkfifo " .. dir .. "/" .. fifo) end
    local p = io.popen(("timeout 60 %s test %s 2>&1; echo exit=$?"):format(program, arguments:gsub("DIR", dir)))
    local output = p:read("*a")
    p:close()
    os.execute("rm -r " .. dir)
    return tonumber(output:match("exit=(%d+)")), output
  end

  local passing = 'it("passes", function() assert.equal(1, 1) end)'
  local failing = 'it("fails", function() assert.equal(1, 2) end)'

  it("exits 0 when all pass", function()
    local code, output = run({ ["a_spec.lua"] = passing }, "DIR -o TAP")
    assert.equal(0, code, output)
    assert.matches("ok 1", output)
  end)

  it("exits 1 when one fails", function()
    local code, output = run({ ["a_spec.lua"] = passing, ["b_spec.lua"] = failing }, "DIR -o TAP")
    assert.equal(1, code)
    assert.matches("not ok 2", output)
    assert.not_matches("tidegate test:", output)
  end)

  it("finds the specs beside rules", function()
    local code, output = run({
      ["routing.lua"] = 'return function() return drop("x") end',
      ["spec/a_spec.lua"] = 'local rules = require("tidegate.testing").load()\n' ..
        'it("drops", function() assert.dropped(rules:decide{ name = "m" }, "x") end)',
    }, "DIR -o TAP")
    assert.equal(0, code, output)
    assert.matches("ok 1 %- drops", output)
  end)

  it("exits with what a spec says to os.exit", function()
    assert.equal(1, (run({ ["a_spec.lua"] = "os.exit(3)" }, "DIR")))
  end)

  it("says when there is nothing", function()
    local code, output = run({}, "/nowhere")
    assert.equal(1, code)
    assert.matches("there is no /nowhere here", output)
  end)

  it("fails when a spec does not load", function()
    assert.equal(1, (run({ ["a_spec.lua"] = "this is not Lua" }, "DIR")))
  end)

  it("does not wait for a FIFO", function()
    local deciding = 'local rules = require("tidegate.testing").load()\n' ..
      'it("decides", function() assert.dropped(rules:decide{ name = "m" }) end)'
    for _, name in ipairs{ "routing.lua", "gateway.lua", "spec/b_spec.lua" } do
      local code, output = run({
        ["tags.lua"] = "return function() end",
        ["spec/a_spec.lua"] = deciding,
      }, "DIR", name)
      assert.equal(1, code, name .. ": " .. output)
      assert.matches(name:match("[^/]*$") .. "[^\n]*it is a FIFO, not a regular file", output)
    end
  end)
end)
