local testing = require "tidegate.testing"

describe("strategy.lua", function()
  local rules = testing.load()

  it("acknowledges what is on disk", function()
    local plan = rules:decide{ name = "http.requests", tags = { team = "billing" } }
    assert.strategy(plan, "logged")
    assert.waits_for(plan)
  end)
end)
