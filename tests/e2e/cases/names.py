"""Names that are not classic at a Prometheus backend: kept, or escaped, never merged in silence."""
import time
import unittest

from harness import *

NOW = int(time.time())


def backend(server, more=""):
    return f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{server.port}/api/v1/write"{more} }}'


class Utf8Names(unittest.TestCase):
    def send(self, g):
        ms = (NOW - 100) * 1000
        r = g.post("/api/v1/write", write_request([
            ({"__name__": "http.server.duration", "http.route": "/x"}, [(ms, 1.0)]),
            ({"__name__": "温度", "地点": "x"}, [(ms, 2.0)]),
            ({"__name__": "a温"}, [(ms, 3.0)]), ({"__name__": "a湿"}, [(ms, 4.0)])]), RW_HEADERS)
        self.assertEqual(r.status, 204, r.text)
        r = g.influx(f"größe,room=a value=21.5 {(NOW - 100) * SECOND}", "/api/v2/write")
        self.assertEqual(r.status, 204, r.text)

    WANT = {
        frozenset({"__name__": "http.server.duration", "http.route": "/x"}.items()): 1.0,
        frozenset({"__name__": "温度", "地点": "x"}.items()): 2.0,
        frozenset({"__name__": "a温"}.items()): 3.0,
        frozenset({"__name__": "a湿"}.items()): 4.0,
        frozenset({"__name__": "größe_value", "room": "a"}.items()): 21.5,
    }

    def test_kept_at_victoriametrics(self):
        vm = victoria_metrics(self)
        g = Gateway(self, backend(vm)).start()
        self.send(g)
        g.wait_delivered("prom", 5)
        got = {k: v[0][1] for k, v in vm_export(vm, '{__name__!=""}').items()}
        self.assertEqual(got, self.WANT)

    def test_kept_at_prometheus(self):
        server = prometheus(self)
        g = Gateway(self, backend(server)).start()
        self.send(g)
        g.wait_delivered("prom", 5)
        got = {k: float(v[0][1]) for k, v in prom_samples(server, '{__name__!=""}', NOW, 1000).items()}
        self.assertEqual(got, self.WANT)
        self.assertEqual(g.dead_letters("prom"), [])

    def test_escaped_names_that_are_one_are_told_apart(self):
        vm = victoria_metrics(self)
        g = Gateway(self, backend(vm, ', names = "escaped"')).start()
        ms = (NOW - 100) * 1000
        for name, value in (("a温", 1.0), ("a湿", 2.0)):  # two requests: in one, each of two workers may be the first
            self.assertEqual(g.post("/api/v1/write", write_request([({"__name__": name}, [(ms, value)])]), RW_HEADERS).status, 204)
            g.wait_delivered("prom", 1)
        lines = f"温度,room=a value=21.5 {ms}000000\n湿度,room=a value=60 {ms}000000"
        self.assertEqual(g.influx(lines, "/api/v2/write").status, 204)
        wait_for("the ledger", lambda: sum(g.ledger("prom")[k] for k in ("delivered", "dead_lettered")) == 4)
        self.assertEqual({k: v[0][1] for k, v in vm_export(vm, '{__name__!=""}').items()},
                         {frozenset({"__name__": "a_"}.items()): 1.0,
                          frozenset({"__name__": "___value", "room": "a"}.items()): 21.5})
        reasons = sorted(x["reason"] for x in g.dead_letters("prom"))
        self.assertEqual(len(reasons), 2)
        self.assertIn("a湿 would be one series there with a温", reasons[0])
        self.assertIn('湿度_value{room="a"} would be one series there with 温度_value{room="a"}', reasons[1])
        self.assertEqual(g.metrics()['tidegate_backend_series_merged{backend="prom"}'], 2)
        self.assertEqual({e["backend"] for e in g.status()["merged"]["examples"]}, {"prom"})
        self.assertIn("prom would make one of 2 series: a温, a湿", g.cli("status", "--once", "--admin", f"127.0.0.1:{g.admin}").stdout)


class MergedByRules(unittest.TestCase):
    def test_said_by_reload_status_and_explain(self):
        vm = victoria_metrics(self)
        g = Gateway(self, backend(vm), rules={"tags": "return function(series) end"}).start()

        def send(i):
            series = [({"__name__": "requests", "app": "x", "pod": str(p)}, [((NOW - 100 + i) * 1000, float(p))])
                      for p in range(5)]
            self.assertEqual(g.post("/api/v1/write", write_request(series), RW_HEADERS).status, 204)
            g.wait_delivered("prom", 5 * (i + 1))

        send(0)
        g.write_rule("tags", "return function(series) series.tags.pod = nil end")
        r = request("POST", g.admin, "/-/reload?strict=1")
        self.assertEqual(r.status, 400, r.text)
        r = request("POST", g.admin, "/-/reload")
        self.assertEqual(r.status, 200, r.text)
        self.assertEqual(len(r.json()["warnings"]), 1, r.text)
        self.assertTrue(r.json()["warnings"][0].startswith('5 live series become one: requests{app="x"} (one of them'), r.text)
        send(1)
        self.assertEqual(g.metrics()["tidegate_series_merged"], 4)
        merged = g.status()["merged"]
        self.assertEqual((merged["series"], merged["examples"][0]["series"]), (4, 5))
        said = g.cli("explain", 'requests{pod="3"}', "--config", g.config, "--admin", f"127.0.0.1:{g.admin}").stdout
        self.assertIn("the rules make one of 5 live series", said)
        self.assertEqual(g.dead_letters("prom"), [])  # on_merge = "warn"
        self.assertIn("tags.lua makes one series of", g.log_text())
