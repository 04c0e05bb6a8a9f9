-- routing.lua: which backends get a series.
-- Return to("a", "b"), drop("reason"), or nothing for every backend in gateway.lua.
-- Recipes: docs/rules.md

return function(series)
  -- if series.name:find("^debug%.") then return drop("debug") end
  -- if series.tags.team == "billing" then return to("archive") end
  return nil
end
