local codec = require "tidegate.codec"
local ffi = require "ffi"

local function same_int64(want, got)
  assert.equal(#want, #got)
  for i = 1, #want do assert.is_true(got[i] == want[i], ("value %d: %s"):format(i, tostring(got[i]))) end
end

describe("tidegate.codec", function()
  describe("gorilla", function()
    it("gives the same numbers back", function()
      local values = { 0, 1.5, 1.5, -2.25, 1e308, 5e-324, math.huge, -math.huge, 0.1 }
      assert.same(values, codec.gorilla.decode(codec.gorilla.encode(values)))
      assert.same({}, codec.gorilla.decode(codec.gorilla.encode({})))
    end)

    it("keeps the sign of zero, and NaN", function()
      local got = codec.gorilla.decode(codec.gorilla.encode({ -0.0, 0 / 0 }))
      assert.equal(-math.huge, 1 / got[1])
      assert.is_true(got[2] ~= got[2])
    end)

    it("makes steady values small", function()
      local values = {}
      for i = 1, 1000 do values[i] = 42.5 end
      assert.is_true(#codec.gorilla.encode(values) < 150)
    end)

    it("says what is wrong", function()
      local bytes, why = codec.gorilla.encode({ 1, "2" })
      assert.is_nil(bytes)
      assert.equal("value 2 is a string, not a number", why)
      for _, bad in ipairs({ "", "x", "G", "G\5" .. ("\0"):rep(8), codec.delta.encode({ 1 }) }) do
        local values, message = codec.gorilla.decode(bad)
        assert.is_nil(values)
        assert.is_string(message)
      end
    end)
  end)

  for _, name in ipairs({ "delta", "dod" }) do
    describe(name, function()
      local c = codec[name]

      it("gives every int64 back", function()
        local values = { 0LL, 1LL, -1LL, 0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1, 5LL,
          1700000000000000000LL, 1700000000000000001LL }
        same_int64(values, c.decode(c.encode(values)))
        same_int64({}, c.decode(c.encode({})))
      end)

      it("takes whole numbers and gives int64", function()
        local got = c.decode(c.encode({ 10, 20, 30 }))
        assert.is_true(ffi.istype("int64_t", got[1]))
        same_int64({ 10LL, 20LL, 30LL }, got)
      end)

      it("says what is wrong", function()
        for _, bad in ipairs({ { 1.5 }, { 2 ^ 60 }, { "1" }, { 0xffffffffffffffffULL }, { 0 / 0 } }) do
          local bytes, why = c.encode(bad)
          assert.is_nil(bytes)
          assert.matches("value 1", why)
        end
        local bytes, why = c.encode("x")
        assert.is_nil(bytes)
        assert.matches("a list of int64 is expected", why)
        local values, message = c.decode("junk")
        assert.is_nil(values)
        assert.is_string(message)
      end)
    end)
  end

  it("dod makes even times small", function()
    local times = {}
    for i = 1, 1000 do times[i] = 1700000000000000000LL + i * 15000000000LL end
    assert.is_true(#codec.dod.encode(times) < 160)
  end)

  describe("snappy", function()
    it("gives the text back", function()
      local text = ("tidegate "):rep(1000)
      local packed = codec.snappy.compress(text)
      assert.is_true(#packed < #text / 5)
      assert.equal(text, codec.snappy.uncompress(packed))
      assert.equal("", codec.snappy.uncompress(codec.snappy.compress("")))
    end)

    it("refuses what is too large or damaged", function()
      local packed = codec.snappy.compress(("x"):rep(1000))
      local text, why = codec.snappy.uncompress(packed, 999)
      assert.is_nil(text)
      assert.is_string(why)
      assert.is_nil((codec.snappy.uncompress("\255\255\255junk")))
    end)
  end)

  describe("influx", function()
    it("reads lines", function()
      local lines = codec.influx.parse(
        'cpu,host=a\\ b,region=eu user=1.5,count=7i,big=9u,on=true,note="hi, you" 1700000000000000001\n' ..
        "mem used=2 5\n")
      assert.equal(2, #lines)
      local cpu = lines[1]
      assert.equal("cpu", cpu.measurement)
      assert.same({ host = "a b", region = "eu" }, cpu.tags)
      assert.is_true(cpu.time == 1700000000000000001LL)
      assert.equal(1.5, cpu.fields.user)
      assert.is_true(ffi.istype("int64_t", cpu.fields.count) and cpu.fields.count == 7LL)
      assert.is_true(ffi.istype("uint64_t", cpu.fields.big) and cpu.fields.big == 9ULL)
      assert.equal(true, cpu.fields.on)
      assert.equal("hi, you", cpu.fields.note)
      assert.equal("mem", lines[2].measurement)
    end)

    it("knows the precision of times", function()
      assert.is_true(codec.influx.parse("m f=1 5", "s")[1].time == 5000000000LL)
      local lines, why = codec.influx.parse("m f=1 5", "fortnight")
      assert.is_nil(lines)
      assert.is_string(why)
    end)

    it("names the bad line", function()
      local lines, why = codec.influx.parse("m f=1 5\nm f= 6\n")
      assert.is_nil(lines)
      assert.matches("line 2", why)
    end)
  end)
end)
