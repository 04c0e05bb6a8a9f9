return function(series)
  if series.tags.team == "billing" then return keep("5y") end
  if series.tags.env == "dev" then return keep("7d") end
  return keep("90d", { ["5m"] = "1y" })
end
