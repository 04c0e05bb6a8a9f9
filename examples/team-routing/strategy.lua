-- Billing is acknowledged when both backends have it; all else as soon as it is in the log.
return function(series)
  if series.tags.team == "billing" then return all() end
  return logged()
end
