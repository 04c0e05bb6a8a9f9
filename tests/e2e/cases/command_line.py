"""What a person types: quickstart, and the commands against a running gateway."""
import json
import os
import subprocess
import unittest

from harness import *


class Quickstart(unittest.TestCase):
    def test_once(self):
        r = subprocess.run([os.path.join(ROOT, "quickstart"), "--once"], cwd=ROOT, capture_output=True, text=True,
                           timeout=600, stdin=subprocess.DEVNULL)
        self.assertEqual(r.returncode, 0, r.stdout[-3000:] + r.stderr[-3000:])
        self.assertIn("system.cpu.load_average.1m", r.stdout)
        self.assertRegex(r.stdout, r"\d+ rows from archive")
        self.assertIn(".parquet", r.stdout)


class Commands(unittest.TestCase):
    def setUp(self):
        self.g = Gateway(self, 'archive = { type = "parquet", dir = "parquet", linger = "50ms" }').start()
        self.admin = f"127.0.0.1:{self.g.admin}"

    def test_send_query_status(self):
        g = self.g
        r = g.cli("send", "load", "--to", f"http://127.0.0.1:{g.http}", "--series", "50", "--points", "2000",
                  "--batch", "100")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("2000 points taken", r.stdout)
        for protocol in ("remote-write", "influx"):
            r = g.cli("send", "load", "--to", f"http://127.0.0.1:{g.http}", "--series", "50", "--points", "500",
                      "--protocol", protocol)
            self.assertEqual(r.returncode, 0, r.stderr)
        r = g.cli("send", "host", "--count", "2", "--interval", "100ms", "--to", f"http://127.0.0.1:{g.http}")
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for("delivery", lambda: g.ledger("archive")["waiting"] == 0)
        r = g.cli("query", "system.memory.usage", "--since", "5m", "--admin", self.admin)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("state=\"used\"", r.stdout)
        r = g.cli("status", "--once", "--admin", self.admin)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("archive", r.stdout)
        r = g.cli("status", "--json", "--admin", self.admin)
        self.assertTrue(json.loads(r.stdout)["backends"][0]["ledger"]["balanced"])

    def test_mistakes_are_answered_with_the_way_out(self):
        g = self.g
        for words, code, says in (
                (["sned"], 2, "send"),
                (["query", "--sinse", "5m"], 2, "--since"),
                (["rewind", "archiv", "--to", "start", "--admin", self.admin], 1, "archive"),
                (["check", "--config", "/nonexistent/gateway.lua"], 1, "/nonexistent/gateway.lua"),
                (["send", "host", "--count", "1", "--to", f"http://127.0.0.1:{free_port()}", "--retry-for", "0s"], 1, "127.0.0.1")):
            r = g.cli(*words)
            self.assertEqual(r.returncode, code, (words, r.stdout, r.stderr))
            self.assertIn(says, r.stdout + r.stderr, words)
        with open(g.config) as f:
            text = f.read().replace('sync = "always"', 'sinc = "always"')
        bad = os.path.join(g.dir, "bad.lua")
        with open(bad, "w") as f:
            f.write(text)
        r = g.cli("check", "--config", bad)
        self.assertEqual(r.returncode, 1)
        self.assertIn('did you mean "sync"', r.stdout + r.stderr)

    def test_pages_of_the_admin_port(self):
        g = self.g
        self.assertEqual(request("GET", g.admin, "/healthz").status, 200)
        self.assertEqual(request("GET", g.admin, "/readyz").status, 200)
        r = request("GET", g.admin, "/")
        self.assertEqual(r.status, 200)
        self.assertIn("archive", r.text)
        self.assertEqual(request("GET", g.admin, "/-/reload").status, 405)
        self.assertEqual(request("GET", g.admin, "/nothing").status, 404)
        self.assertIn("tidegate_backend_points_waiting{backend=\"archive\"}", request("GET", g.admin, "/metrics").text)

    def test_metrics_are_as_prometheus_wants_them(self):
        promtool = need("promtool")
        text = request("GET", self.g.admin, "/metrics").text
        r = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
