"""What a person types: quickstart, and the commands against a running gateway."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
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

    def test_ctrl_c_drains(self):
        # A copy with its own ports and data, and a build that is there already.
        home = tempfile.mkdtemp(prefix="tidegate-e2e-")
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        for name in ("quickstart", "scripts", "tests/support"):
            there = os.path.join(home, name)
            copy = shutil.copytree if os.path.isdir(os.path.join(ROOT, name)) else shutil.copy
            copy(os.path.join(ROOT, name), there)
        config = os.path.join(home, "scripts/gateway.lua")
        with open(config) as f:
            text = f.read()
        text = text.replace("127.0.0.1:4318", "127.0.0.1:0").replace("127.0.0.1:4320", "127.0.0.1:0")
        with open(config, "w") as f:
            f.write(text.replace('dir = "../data/parquet"', 'dir = "../data/parquet", linger = "50ms"'))
        os.makedirs(os.path.join(home, "build/release"))
        os.makedirs(os.path.join(home, "bin"))
        os.symlink(os.environ["TIDEGATE_BINARY"], os.path.join(home, "build/release/tidegate"))
        os.symlink(shutil.which("true"), os.path.join(home, "bin/cmake"))
        log = os.path.join(home, "out.txt")
        with open(log, "w") as out:
            p = subprocess.Popen([os.path.join(home, "quickstart")], cwd=home, stdout=out, stderr=out,
                                 stdin=subprocess.DEVNULL, start_new_session=True,
                                 # these tests may run in the background, where a shell has SIGINT ignored
                                 preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                                 env=dict(os.environ, PATH=os.path.join(home, "bin") + ":" + os.environ["PATH"]))
        try:
            wait_for("quickstart", lambda: p.poll() is not None or "Its messages follow" in open(log).read(), 60)
            os.killpg(p.pid, signal.SIGINT)  # what a terminal does: every process of the group
            code = p.wait(20)
        finally:
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGKILL)
        text = open(log).read()
        self.assertEqual(code, 0, text[-3000:])
        self.assertIn("draining", text)
        self.assertIn("run: stopped", text)
        self.assertNotIn("leaving at once", text)


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

    def test_what_query_shows_can_be_asked_for(self):
        g = self.g
        self.assertEqual(g.influx(r'm,k=a\ "b"\c v=1').status, 204)
        wait_for("delivery", lambda: g.ledger("archive")["waiting"] == 0)
        r = g.cli("query", "m_v", "--admin", self.admin)
        shown = r'k="a \"b\"\\c"'
        self.assertIn("all rows: " + shown + "\n", r.stdout)
        r = g.cli("query", "m_v{" + shown + "}", "--admin", self.admin)
        self.assertIn("1 rows from archive", r.stdout)

    def test_mistakes_are_answered_with_the_way_out(self):
        g = self.g
        for words, code, says in (
                (["sned"], 2, "send"),
                (["query", "--sinse", "5m"], 2, "--since"),
                (["rewind", "archiv", "--to", "start", "--admin", self.admin], 1, "archive"),
                (["check", "--config", "/nonexistent/gateway.lua"], 1, "/nonexistent/gateway.lua"),
                (["send", "wether"], 2, 'there is no file "wether"'),
                (["send", "./wether"], 1, "cannot open ./wether: No such file"),
                (["query", "x", "--admin", self.admin], 0, "in the last hour (--since 1d"),
                (["query", "x", "--since", "5m", "--admin", self.admin], 0, "no rows in archive for that time\n"),
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
