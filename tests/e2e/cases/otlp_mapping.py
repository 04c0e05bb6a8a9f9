"""What becomes of OTLP at real Prometheus-like servers and at InfluxDB: labels, target_info, what has no form there."""
import struct
import time
import unittest
import urllib.parse

from harness import *

NOW = int(time.time())
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def scoped_request(metrics, scope, schema_url, resource):
    """One resource, one scope with attributes and a schema URL."""
    res = b"".join(attribute(1, k, v) for k, v in resource.items())
    head = field(1, field(1, scope["name"]) + b"".join(attribute(3, k, v) for k, v in scope["attributes"].items()))
    return field(1, field(1, res) + field(2, head + b"".join(field(2, m) for m in metrics) + field(3, schema_url)))


def ended_histogram(name, ts_ns, bounds):
    """A cumulative histogram point with the flag "no recorded value"."""
    point = b"\x19" + struct.pack("<Q", ts_ns)
    packed = b"".join(struct.pack("<d", b) for b in bounds)
    counts = b"".join(struct.pack("<Q", 0) for _ in range(len(bounds) + 1))
    point += field(6, counts) + field(7, packed) + b"\x50\x01"
    return field(1, name) + field(9, field(1, point) + b"\x10\x02")


class OtlpAtPrometheus(unittest.TestCase):
    def both(self):
        vm, p = victoria_metrics(self), prometheus(self)
        g = Gateway(self, f"""
vm = {{ type = "prometheus", url = "http://127.0.0.1:{vm.port}/api/v1/write" }},
prom = {{ type = "prometheus", url = "http://127.0.0.1:{p.port}/api/v1/write" }}""").start()
        return vm, p, g

    def test_job_instance_target_info_and_scope(self):
        vm, p, g = self.both()
        for i in ("i1", "i2"):
            body = scoped_request([counter("jobs", [number_point((NOW - 20 + k) * SECOND, k, path="/") for k in range(5)])],
                                  {"name": "lib", "attributes": {"path": "of the scope"}}, "https://example.invalid/1",
                                  {"service.name": "shop", "service.namespace": "eu", "service.instance.id": i,
                                   "host.name": "h-" + i})
            self.assertEqual(g.otlp(body).status, 200)
        for name in ("vm", "prom"):
            g.wait_delivered(name, 10)
            self.assertEqual(g.dead_letters(name), [])
        # scripts/tags.lua calls service.name service_name: a tag that rules set is a label
        points = [{"__name__": "jobs_total", "job": "eu/shop", "instance": i, "path": "/", "service_name": "shop",
                   "service_namespace": "eu", "otel_scope_name": "lib", "otel_scope_path": "of the scope",
                   "otel_scope_schema_url": "https://example.invalid/1"} for i in ("i1", "i2")]
        targets = [{"__name__": "target_info", "job": "eu/shop", "instance": i, "host_name": "h-" + i} for i in ("i1", "i2")]
        want = {frozenset(x.items()) for x in points + targets}
        selector = '{__name__=~"jobs_total|target_info"}'
        got = wait_for("target_info at VictoriaMetrics", lambda: set(vm_export(vm, selector)) == want and vm_export(vm, selector))
        self.assertEqual([v for t, v in got[frozenset(targets[0].items())]], [1.0])
        self.assertEqual([v for t, v in got[frozenset(points[1].items())]], [0.0, 1.0, 2.0, 3.0, 4.0])
        wait_for("the same at Prometheus", lambda: set(prom_samples(p, selector, NOW + 1, 3600)) == want)

    def test_target_info_older_than_it_was_harms_no_points(self):
        p = prometheus(self, out_of_order="0s")
        g = Gateway(self, f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{p.port}/api/v1/write" }}').start()
        resource = {"service__name": "shop", "service__instance__id": "i1", "host__name": "h"}
        for name, second in (("a", NOW), ("b", NOW - 600)):
            self.assertEqual(g.otlp(otlp_request([gauge(name, [number_point(second * SECOND, 1.5)])], **resource)).status, 200)
            wait_for("its delivery", lambda: g.ledger("prom")["waiting"] == 0)
        self.assertEqual(g.ledger("prom")["delivered"], 2)
        self.assertEqual(g.dead_letters("prom"), [])
        self.assertEqual(len(prom_samples(p, 'b{instance="i1"}', NOW + 1, 3600)), 1)

    def test_resources_without_an_instance_do_not_become_one(self):
        vm, p, g = self.both()
        for host in ("h1", "h2"):
            body = otlp_request([gauge("temp", [number_point(NOW * SECOND, 1.5)])], service__name="shop", host__name=host)
            self.assertEqual(g.otlp(body).status, 200)
        for name in ("vm", "prom"):
            g.wait_delivered(name, 2)
        got = {dict(k)["host_name"] for k in prom_samples(p, 'temp{job="shop"}', NOW + 1, 3600)}
        self.assertEqual(got, {"h1", "h2"})

    def test_a_histogram_that_ended_has_no_series_left(self):
        p = prometheus(self)
        g = Gateway(self, f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{p.port}/api/v1/write" }}').start()
        live = b"\x19" + struct.pack("<Q", (NOW - 30) * SECOND) + b"\x21" + struct.pack("<Q", 3) + \
            b"\x29" + struct.pack("<d", 2.5) + field(6, struct.pack("<QQ", 1, 2)) + field(7, struct.pack("<d", 1.0))
        first = field(1, "took") + field(9, field(1, live) + b"\x10\x02")
        self.assertEqual(g.otlp(otlp_request([first])).status, 200)
        g.wait_delivered("prom", 1)

        def names(at):
            r = request("GET", p.port, "/api/v1/query?" + urllib.parse.urlencode({"query": '{__name__=~"took_.*"}', "time": at}))
            return sorted(x["metric"]["__name__"] for x in r.json()["data"]["result"])

        self.assertEqual(names(NOW - 20), ["took_bucket", "took_bucket", "took_count", "took_sum"])
        self.assertEqual(g.otlp(otlp_request([ended_histogram("took", (NOW - 10) * SECOND, [1.0])])).status, 200)
        g.wait_delivered("prom", 2)
        self.assertEqual(names(NOW - 5), [])

    def test_unspecified_temporality_is_refused(self):
        g = Gateway(self, 'a = { type = "parquet", dir = "parquet" }').start()
        point = number_point(NOW * SECOND, 1)
        r = g.otlp(otlp_request([field(1, "c") + field(7, field(1, point) + b"\x18\x01"),
                                 gauge("fine", [number_point(NOW * SECOND, 1)])]))
        self.assertEqual(r.status, 200)
        self.assertIn("aggregation_temporality is unspecified", r.text)
        self.assertEqual(g.status()["points"]["rejected"], 1)
        self.assertEqual(g.status()["points"]["received"], 1)


class WhatHasNoForm(unittest.TestCase):
    def test_stale_markers_and_nan_at_influxdb_and_mixed_numbers(self):
        server = influxdb(self)
        g = Gateway(self, f'influx = {{ type = "influxdb", url = "http://127.0.0.1:{server.port}", database = "test", '
                          f'numbers = "float" }}').start()
        series = [({"__name__": "m", "s": str(s)}, [((NOW - 30 + i) * 1000, [1.5, STALE, float("nan"), float("inf")][i % 4])
                                                    for i in range(20)]) for s in range(10)]
        self.assertEqual(g.post("/api/v1/write", write_request(series), RW_HEADERS).status, 204)
        wait_for("all of it", lambda: g.ledger("influx")["waiting"] == 0)
        ledger = g.ledger("influx")
        self.assertEqual((ledger["delivered"], ledger["inexpressible"], ledger["dead_lettered"]), (50, 150, 0))
        self.assertEqual(g.dead_letters("influx"), [])
        kinds = {k: v for k, v in g.metrics().items() if "inexpressible" in k and v}
        self.assertEqual(sorted(kinds.values()), [50, 100], kinds)
        # integers of one sender and floats of another: one field type
        for value in ("7i", "1.5", "8u"):
            self.assertEqual(g.influx(f"mixed v={value} {NOW * SECOND + ord(value[0])}", "/api/v2/write").status, 204)
        wait_for("all of it", lambda: g.ledger("influx")["waiting"] == 0)
        self.assertEqual(g.dead_letters("influx"), [])
        self.assertEqual(sorted(row[1] for row in influx_query(server, "SELECT v FROM mixed")[0]["values"]), [1.5, 7, 8])

    def test_text_and_delta_at_prometheus(self):
        vm = victoria_metrics(self)
        g = Gateway(self, f'vm = {{ type = "prometheus", url = "http://127.0.0.1:{vm.port}/api/v1/write" }}').start()
        self.assertEqual(g.influx(f'm s="text",v=1 {NOW * SECOND}', "/api/v2/write").status, 204)
        delta = field(1, "d") + field(7, field(1, number_point(NOW * SECOND, 1)) + b"\x10\x01\x18\x01")
        self.assertEqual(g.otlp(otlp_request([delta])).status, 200)
        wait_for("all of it", lambda: g.ledger("vm")["waiting"] == 0)
        ledger = g.ledger("vm")
        self.assertEqual((ledger["delivered"], ledger["inexpressible"], ledger["dead_lettered"]), (1, 2, 0))
