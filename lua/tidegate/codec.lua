--- The gateway's codecs for Lua programs.
--
--   local codec = require "tidegate.codec"
--   local bytes = codec.gorilla.encode({ 1.5, 1.5, 1.75 })
--   local values = codec.gorilla.decode(bytes)
--
-- int64 values are int64 cdata (1LL) or whole Lua numbers up to 2^53; they come back as int64 cdata,
-- since a Lua number cannot hold nanoseconds since 1970. Expected failure gives nil and a message.

local core = require "tidegate.codec_core"
local ffi = require "ffi"

local codec = {}

local int64_t, uint64_t = ffi.typeof("int64_t"), ffi.typeof("uint64_t")
local int64_array, int64_pointer = ffi.typeof("int64_t[?]"), ffi.typeof("const int64_t *")
local EXACT = 2 ^ 53

--- The value as int64 cdata, or nil and a message.
local function to_int64(v, i)
  if ffi.istype(int64_t, v) then return v end
  if ffi.istype(uint64_t, v) then
    if v >= 0x8000000000000000ULL then
      return nil, ("value %d is too large for an int64"):format(i)
    end
    return ffi.cast(int64_t, v)
  end
  if type(v) ~= "number" then
    return nil, ("value %d is a %s, not an int64 or a number"):format(i, type(v))
  end
  if v ~= math.floor(v) or v > EXACT or v < -EXACT then
    return nil, ("value %d (%s) is not a whole number up to 2^53; write it as int64, such as 1LL"):format(
      i, tostring(v))
  end
  return ffi.cast(int64_t, v)
end

local function pack(values)
  if type(values) ~= "table" then return nil, "a list of int64 is expected, not a " .. type(values) end
  local n = #values
  local packed = int64_array(n > 0 and n or 1)
  for i = 1, n do
    local v, why = to_int64(values[i], i)
    if v == nil then return nil, why end
    packed[i - 1] = v
  end
  return ffi.string(packed, n * 8)
end

local function unpack_all(packed)
  local p, values = ffi.cast(int64_pointer, packed), {}
  for i = 1, #packed / 8 do values[i] = p[i - 1] end
  return values
end

local function int64_codec(encode, decode)
  return {
    encode = function(values)
      local packed, why = pack(values)
      if not packed then return nil, why end
      return encode(packed)
    end,
    decode = function(bytes)
      local packed, why = decode(bytes)
      if not packed then return nil, why end
      return unpack_all(packed)
    end,
  }
end

--- Gorilla XOR compression of numbers; exact, but for the payload of NaNs, which Lua does not keep.
codec.gorilla = { encode = core.gorilla_encode, decode = core.gorilla_decode }

--- Differences of int64; exact for every value.
codec.delta = int64_codec(core.delta_encode, core.delta_decode)

--- Differences of differences of int64 (evenly spaced times); exact for every value.
codec.dod = int64_codec(core.dod_encode, core.dod_decode)

--- Snappy's block format, as remote write uses it. uncompress(bytes [, max_bytes]).
codec.snappy = { compress = core.snappy_compress, uncompress = core.snappy_uncompress }

local function int64_of(eight) return ffi.cast(int64_pointer, eight)[0] end

local function same_tags(a, b)
  for k, v in pairs(a) do if b[k] ~= v then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end

local function influx_value(point)
  if point.type == "int64" then return int64_of(point.value) end
  if point.type == "uint64" then return ffi.cast(uint64_t, int64_of(point.value)) end
  return point.value
end

codec.influx = {}

--- Lines of InfluxDB's protocol to a list of { measurement, tags, fields, time }.
-- `precision` is that of the times in the text: "ns" (default), "us", "ms", "s", "m", "h"; `time` is
-- int64 nanoseconds. Integer fields are int64 or uint64 cdata. A line without a time gets the present
-- one. Fields that follow each other with the same measurement, tags and time are one entry. A bad
-- line fails the whole call with its number.
function codec.influx.parse(text, precision)
  local points, why = core.influx_parse(text, precision)
  if not points then return nil, why end
  local lines, last = {}, nil
  for _, p in ipairs(points) do
    local time = int64_of(p.time8)
    if not (last and last.measurement == p.measurement and last.time == time and
        last.fields[p.field] == nil and same_tags(last.tags, p.tags)) then
      last = { measurement = p.measurement, tags = p.tags, fields = {}, time = time }
      lines[#lines + 1] = last
    end
    last.fields[p.field] = influx_value(p)
  end
  return lines
end

return codec
