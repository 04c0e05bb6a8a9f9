-- Every series gets an environment; user ids are not for everybody's eyes.
return function(series)
  local tags = series.tags
  tags.env = tags["deployment.environment"] or tags.env or "dev"
  tags["deployment.environment"] = nil
  if tags["user.id"] then tags["user.id"] = hash(tags["user.id"], 8) end
end
