local testing = require "tidegate.testing"

describe("routing.lua", function()
  local rules = testing.load(nil, { backends = { "archive", "influx" } })

  it("sends a series to every backend", function()
    assert.routed_to(rules:decide{ name = "http.requests" }, "archive", "influx")
  end)

  it("drops nothing", function()
    assert.not_dropped(rules:decide{ name = "debug.anything" })
  end)
end)
