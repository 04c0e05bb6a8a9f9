local testing = require "tidegate.testing"

describe("team routing", function()
  local rules = testing.load("..")

  it("gives billing both backends, and waits for both", function()
    local plan = rules:decide { name = "invoices_total", tags = { team = "billing", env = "prod" } }
    assert.routed_to(plan, "archive", "billing")
    assert.strategy(plan, "all")
    assert.keeps(plan, "5y")
  end)

  it("drops debug metrics", function()
    assert.dropped(rules:decide { name = "debug_queue_depth" }, "debug")
  end)

  it("hides user ids and fills in the environment", function()
    local plan = rules:decide { name = "logins", tags = { ["user.id"] = "ada" } }
    assert.has_tag(plan, "env", "dev")
    assert.is_not.equal("ada", plan.tags["user.id"])
    assert.equal(8, #plan.tags["user.id"])
    assert.routed_to(plan, "archive")
    assert.keeps(plan, "7d")
  end)
end)
