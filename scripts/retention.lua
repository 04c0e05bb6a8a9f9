-- retention.lua: how long a series is kept: keep(raw, { [interval] = how long its rollups are kept }).
-- Return nothing to keep it for ever.

return function(series)
  -- if series.name:find("^node%.") then return keep("30d", { ["5m"] = "180d", ["1h"] = "5y" }) end
  return keep("90d")
end
