local testing = require "tidegate.testing"

describe("retention.lua", function()
  local rules = testing.load()

  it("keeps everything for 90 days", function()
    assert.keeps(rules:decide{ name = "http.requests" }, "90d")
  end)
end)
