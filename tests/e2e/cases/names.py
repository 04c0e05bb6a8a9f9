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
