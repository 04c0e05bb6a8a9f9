"""Every recipe of docs/rules.md put in force, one after the other, on a gateway that has live series."""
import os
import re
import unittest

from harness import *

PAGE = os.path.join(ROOT, "docs", "rules.md")


def files_of(text):
    """The blocks ```lua of a text that begin with `-- NAME.lua`."""
    blocks = re.findall(r"^```lua\n-- (\S+\.lua)\n(.*?)^```$", text, re.M | re.S)
    return dict(blocks)


class Recipes(unittest.TestCase):
    def test_each_can_be_put_in_force_and_taken_back(self):
        with open(PAGE) as f:
            begin, recipes = f.read().split("\n## Recipes\n")
        first = files_of(begin)
        g = Gateway(self, "", {name[:-4]: first[name] for name in first
                               if name in ("tags.lua", "routing.lua", "strategy.lua", "retention.lua")})
        with open(g.config, "w") as f:
            f.write(first["gateway.lua"])
        with open(g.config) as f:
            config = f.read()
        with open(g.config, "w") as f:
            f.write(config.replace("127.0.0.1:4318", "127.0.0.1:0").replace("127.0.0.1:4320", "127.0.0.1:0"))
        g.start()
        lines = "\n".join(f"m{i},team=t{i % 3},env=prod,host=h{i} user=1,system=2" for i in range(20))
        self.assertEqual(g.influx(lines).status, 204)
        n = 0
        for recipe in recipes.split("\n### ")[1:]:
            name, text = recipe.split("\n", 1)
            with self.subTest(name):
                files = {**first, **files_of(text)}
                for script in ("tags", "routing", "strategy", "retention"):
                    g.write_rule(script, files[script + ".lua"])
                r = request("POST", g.admin, "/-/reload?strict=1")
                self.assertEqual(r.status, 200, r.text)
                self.assertEqual((r.json()["live_series"], r.json()["decided"]), (40, 40))
                self.assertEqual(g.influx(lines).status, 204)
                self.assertEqual(g.metrics()["tidegate_series_failed"], 0)
                n += 1
        self.assertGreater(n, 15)
        for script in ("tags", "routing", "strategy", "retention"):
            g.write_rule(script, first[script + ".lua"])
        self.assertEqual(request("POST", g.admin, "/-/reload?strict=1").status, 200)
