-- retention.lua: how long a series is kept: keep(raw, { [interval] = how long its rollups are kept }).
-- Return nothing to keep it for ever. Age counts from a point's own time: old data that is sent
-- today (a backfill) is old when it arrives, and goes at once when it is past its time.
-- Recipes: docs/rules.md

return function(series)
  -- if series.name:find("^debug%.") then return keep("7d") end
  -- if series.tags.team == "billing" then return keep("90d", { ["5m"] = "2y", ["1h"] = "10y" }) end
  return nil
end
