local testing = require "tidegate.testing"

describe("tags.lua", function()
  local rules = testing.load()

  it("names the service without dots", function()
    local plan = rules:decide{
      name = "http.requests",
      tags = { ["service.name"] = "api", ["service.namespace"] = "shop" },
    }
    assert.tags(plan, { service_name = "api", service_namespace = "shop" })
  end)

  it("keeps every other tag as it is", function()
    local plan = rules:decide{ name = "http.requests", tags = { ["host.name"] = "a1", status = "200" } }
    assert.tags(plan, { ["host.name"] = "a1", status = "200" })
  end)
end)
