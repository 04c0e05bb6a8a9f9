"""Every folder of examples/: its input sent, its backends queried, the answers compared with its expected files."""
import json
import os
import shutil
import tempfile
import unittest

from harness import *

EXAMPLES = os.path.join(ROOT, "examples")


def canonical(row):
    return json.dumps({k: row[k] for k in ("name", "tags", "time_ns", "value") if k in row}, sort_keys=True)


class Examples(unittest.TestCase):
    pass


def case(name):
    def test(self):
        g = Gateway(self, "")
        source = os.path.join(EXAMPLES, name)
        g.dir = os.path.join(g.dir, name)
        shutil.copytree(source, g.dir)
        g.config = os.path.join(g.dir, "gateway.lua")
        g.start({"TIDEGATE_HTTP": "127.0.0.1:0", "TIDEGATE_ADMIN": "127.0.0.1:0"})
        r = g.cli("send", os.path.join(g.dir, "input.lp"), "--to", f"http://127.0.0.1:{g.http}")
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        expected = os.path.join(source, "expected")
        for backend in (b["name"] for b in g.status()["backends"]):
            wait_for(backend, lambda: g.ledger(backend)["waiting"] == 0)
            r = request("GET", g.admin, f"/api/query?backend={backend}&start=0&limit=1000")
            self.assertEqual(r.status, 200, r.text)
            rows = sorted(canonical(row) for row in r.json()["rows"])
            path = os.path.join(expected, backend + ".jsonl")
            if os.environ.get("TIDEGATE_WRITE_EXPECTED"):
                with open(path, "w") as f:
                    f.write("\n".join(rows) + "\n")
            with open(path) as f:
                self.assertEqual(rows, sorted(canonical(json.loads(line)) for line in f), backend)
        if os.path.isdir(os.path.join(source, "spec")):
            r = g.cli("test", os.path.join(source, "spec"))
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    return test


for folder in sorted(os.listdir(EXAMPLES)):
    if os.path.isdir(os.path.join(EXAMPLES, folder)):
        setattr(Examples, "test_" + folder.replace("-", "_"), case(folder))
