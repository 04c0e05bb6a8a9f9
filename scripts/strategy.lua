-- strategy.lua: when a sender is told that its points are safe.
-- `targets` are the backends from routing.lua, in the order it named them. Return one of:
--   logged()      on disk here; backends follow at their own pace (fast, survives a crash)
--   all()         every backend has confirmed (slow, as safe as can be)
--   primary_with_async_replication(targets[1])    that one has confirmed, the others follow
--   primary_only(targets[1])                      goes to that one alone, which has confirmed
-- Recipes: docs/rules.md

return function(series, targets)
  -- if series.tags.team == "billing" then return all() end
  return logged()
end
