return function(series)
  if series.name:find("^debug_") then return drop("debug") end
  if series.tags.team == "billing" then return to("billing", "archive") end
  return to("archive")
end
