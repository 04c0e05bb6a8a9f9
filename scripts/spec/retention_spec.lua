local testing = require "tidegate.testing"

describe("retention.lua", function()
  local rules = testing.load()

  it("deletes nothing", function()
    assert.keeps(rules:decide{ name = "http.requests" }, "for ever")
  end)
end)
