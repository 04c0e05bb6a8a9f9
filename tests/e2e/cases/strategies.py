"""Write strategies: what an acknowledgement waits for."""
import threading
import time
import unittest

from harness import *

RULES = {
    "routing": 'return function(series) return to("a", "b") end',
    "strategy": """return function(series, targets)
  local s = series.tags.s
  if s == "all" then return all() end
  if s == "pa" then return primary_with_async_replication("a") end
  if s == "po" then return primary_only("a") end
  return logged()
end""",
}


class Strategies(unittest.TestCase):
    def gateway(self, a, b):
        backends = "".join(
            f'{n} = {{ type = "influxdb", url = "http://127.0.0.1:{f.port}", database = "x", retry_min = "20ms", retry_max = "50ms" }}, '
            for n, f in (("a", a), ("b", b)))
        return Gateway(self, backends, RULES, limits='ack_timeout = "1s"').start()

    def send(self, g, strategy, n):
        return g.influx(f"m,s={strategy} v={n}i {n}")

    def test_each_waits_for_its_cursors(self):
        down = threading.Event()
        a = Fake(self)
        b = Fake(self, lambda path, body: (503, {}, b"down") if down.is_set() else (204, {}, b""))
        g = self.gateway(a, b)
        for i, s in enumerate(("all", "pa", "po", "log")):
            self.assertEqual(self.send(g, s, 10 + i).status, 204, s)
        down.set()
        self.assertEqual(self.send(g, "log", 20).status, 204, "logged waits for no backend")
        self.assertEqual(self.send(g, "pa", 21).status, 204, "the primary a is up")
        self.assertEqual(self.send(g, "po", 22).status, 204, "the primary a is up")
        began = time.monotonic()
        r = self.send(g, "all", 23)
        self.assertGreaterEqual(time.monotonic() - began, 0.9)
        self.assertEqual(r.status, 503, "all waits for b, which is down")
        self.assertIn("b", r.text)
        self.assertIn("ack_timeout", r.text)
        self.assertIn("retry-after", r.headers)
        down.clear()
        wait_for("b to catch up", lambda: g.ledger("b")["waiting"] == 0)
        self.assertEqual(self.send(g, "all", 24).status, 204)
        times = lambda f: {int(line.rsplit(" ", 1)[1]) for line in f.lines()}
        self.assertEqual(times(a), {10, 11, 12, 13, 20, 21, 22, 23, 24})
        self.assertEqual(times(b), {10, 11, 13, 20, 21, 23, 24}, "primary_only went to a alone")

    def test_all_is_really_there_when_acknowledged(self):
        a, b = Fake(self), Fake(self)
        g = self.gateway(a, b)
        for n in range(1, 30):
            self.assertEqual(self.send(g, "all", n).status, 204)
            for f in (a, b):
                self.assertIn(f" {n}", " ".join(f.lines()[-1:]))


class DeadBackend(unittest.TestCase):
    def test_a_dead_backend_does_not_slow_the_others(self):
        alive = Fake(self)
        dead_port = free_port()
        g = Gateway(self, f"""
          alive = {{ type = "influxdb", url = "http://127.0.0.1:{alive.port}", database = "x" }},
          dead = {{ type = "influxdb", url = "http://127.0.0.1:{dead_port}", database = "x" }}""").start()
        for n in range(50):
            self.assertEqual(g.influx(f"m v={n}i {n + 1}").status, 204)
        g.wait_delivered("alive", 50, 10)
        ledger = g.ledger("dead")
        self.assertEqual(ledger["waiting"], 50)
        wait_for("its state", lambda: g.backend("dead")["state"] == "backoff")
        self.assertFalse(g.backend("dead")["healthy"])
