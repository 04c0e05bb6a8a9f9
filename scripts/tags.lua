-- tags.lua: what a series and its tags are called, and what they say.
-- Change series.tags in place; nil removes a tag. Every other rule sees the result.
-- Recipes: docs/rules.md

-- OpenTelemetry's names with dots, as backends and dashboards usually want them.
local renamed = {
  ["service.name"] = "service_name",
  ["service.namespace"] = "service_namespace",
}

return function(series)
  local tags = series.tags
  for from, to_name in pairs(renamed) do
    if tags[from] ~= nil then
      tags[to_name] = tags[from]
      tags[from] = nil
    end
  end
  -- if series.name == "http.server.duration" then series.name = "http.server.request.duration" end
  -- tags["user.id"] = hash(tags["user.id"], 8) -- keeps users apart without naming them
end
