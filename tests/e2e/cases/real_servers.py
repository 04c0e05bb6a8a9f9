"""Real senders in, real servers out, compared point by point."""
import json
import os
import random
import struct
import subprocess
import time
import unittest

from harness import *

NOW = int(time.time())


class InfluxToInflux(unittest.TestCase):
    def test_every_field_type_point_by_point(self):
        server = influxdb(self)
        g = Gateway(self, f'influx = {{ type = "influxdb", url = "http://127.0.0.1:{server.port}", database = "test" }}')
        g.start()
        rng = random.Random(1)
        want = {}
        lines = []
        for i in range(400):
            ts = (NOW - 1000 + i) * SECOND + rng.randrange(SECOND)
            host = f"host {i % 7},=x"
            fields = {"f": rng.choice([rng.uniform(-1e9, 1e9), 0.1, 1e-300, 5e300, float(i)]), "i": rng.randrange(-2**63, 2**63),
                      "b": rng.random() < 0.5, "s": f'say "{i}", back\\slash and = sign'}
            want[(host, ts)] = fields
            escaped = host.replace(" ", "\\ ").replace(",", "\\,").replace("=", "\\=")
            text = fields["s"].replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'my\\ cpu,host={escaped},dc=a f={fields["f"]!r},i={fields["i"]}i,b={str(fields["b"]).lower()},'
                         f's="{text}" {ts}')
        r = g.influx("\n".join(lines))
        self.assertEqual(r.status, 204, r.text)
        g.wait_delivered("influx", 1600)
        got = {}
        for series in influx_query(server, 'SELECT * FROM "my cpu"'):
            for row in series["values"]:
                d = dict(zip(series["columns"], row))
                self.assertEqual(d["dc"], "a")
                got[(d["host"], d["time"])] = {k: d[k] for k in "fibs"}
        self.assertEqual(len(got), len(want))
        for key, fields in want.items():
            self.assertEqual(got[key], fields, key)

    def test_otlp_to_influx(self):
        server = influxdb(self)
        g = Gateway(self, f'influx = {{ type = "influxdb", url = "http://127.0.0.1:{server.port}", database = "test" }}')
        g.start()
        points = [(NOW * SECOND + i, 0.5 + i) for i in range(50)]
        body = otlp_request([gauge("room.temp", [number_point(t, v, room="attic") for t, v in points])],
                            service__name="thermo")
        self.assertEqual(g.otlp(body).status, 200)
        g.wait_delivered("influx", 50)
        series = influx_query(server, 'SELECT * FROM "room.temp"')[0]
        rows = [dict(zip(series["columns"], v)) for v in series["values"]]
        self.assertEqual([(r["time"], r["value"]) for r in rows], points)
        self.assertTrue(all(r["room"] == "attic" and r["service_name"] == "thermo" for r in rows), rows[0])


class ToVictoriaMetrics(unittest.TestCase):
    def test_three_protocols_in_each_point_once(self):
        vm = victoria_metrics(self)
        g = Gateway(self, f'vm = {{ type = "prometheus", url = "http://127.0.0.1:{vm.port}/api/v1/write" }}').start()
        t0 = (NOW - 600) * 1000
        want = {}
        for batch in range(5):
            series = []
            for s in range(40):
                labels = {"__name__": "rw_metric", "s": str(s), "job": "e2e"}
                samples = [(t0 + (batch * 10 + i) * 1000, s + (batch * 10 + i) / 8) for i in range(10)]
                want.setdefault(frozenset(labels.items()), []).extend(samples)
                series.append((labels, samples))
            r = g.post("/api/v1/write", write_request(series), RW_HEADERS)
            self.assertEqual(r.status, 204, r.text)
        otlp = [((NOW - 300 + i) * SECOND, 1000 + i) for i in range(30)]
        r = g.otlp(otlp_request([counter("jobs.done", [number_point(t, v, start_ns=NOW * SECOND - 10**12, queue="q1") for t, v in otlp])]))
        self.assertEqual(r.status, 200, r.text)
        r = g.influx("\n".join(f"disk,path=/ used={i}i {(NOW - 200 + i) * SECOND}" for i in range(20)), "/api/v2/write")
        self.assertEqual(r.status, 204, r.text)
        g.wait_delivered("vm", 5 * 40 * 10 + 30 + 20)
        got = vm_export(vm, '{__name__="rw_metric"}')
        self.assertEqual(got, want)
        self.assertEqual(vm_export(vm, '{__name__="jobs_done_total"}'),
                         {frozenset({"__name__": "jobs_done_total", "queue": "q1"}.items()):
                          [(t // MS, float(v)) for t, v in otlp]})
        self.assertEqual(vm_export(vm, '{__name__="disk_used"}'),
                         {frozenset({"__name__": "disk_used", "path": "/"}.items()):
                          [((NOW - 200 + i) * 1000, float(i)) for i in range(20)]})


class LargeBodies(unittest.TestCase):
    """What Tidegate writes as snappy by itself (a copy may lie far more than 64 KiB back), as real servers read it."""

    N = 4000

    def send(self, url):
        g = Gateway(self, f'out = {{ type = "prometheus", url = "{url}", batch_points = 50000 }}').start()
        series, want = [], {}
        for i in range(self.N):
            # `path` comes often enough to be shared, and seldom enough to lie far back
            labels = {"__name__": "large_body", "s": f"series-{i}", "path": f"/a/path/{i % 600}", "zone": f"zone-{i % 3}",
                      "job": "e2e"}
            samples = [((NOW - 60 + k) * 1000, i + k / 4) for k in (2, 0, 1)]  # in one body they are put in order
            series.append((labels, samples))
            want[frozenset(labels.items())] = sorted(samples)
        r = g.post("/api/v1/write", write_request(series), RW_HEADERS)
        self.assertEqual(r.status, 204, r.text)
        g.wait_delivered("out", 3 * self.N)
        self.assertEqual(g.dead_letters("out"), [])
        return want

    def test_large_bodies_at_victoria_metrics(self):
        vm = victoria_metrics(self)
        want = self.send(f"http://127.0.0.1:{vm.port}/api/v1/write")
        self.assertEqual(vm_export(vm, '{__name__="large_body"}'), want)

    def test_large_bodies_at_prometheus(self):
        p = prometheus(self, out_of_order="0s")
        want = self.send(f"http://127.0.0.1:{p.port}/api/v1/write")
        got = {k: [(round(t * 1000), float(v)) for t, v in samples]
               for k, samples in prom_samples(p, "large_body", NOW + 1, 3600).items()}
        self.assertEqual(got, want)


class PrometheusAsSenderAndTarget(unittest.TestCase):
    def test_prometheus_scrapes_sends_and_both_sides_agree(self):
        vm = victoria_metrics(self)
        g = Gateway(self, f'vm = {{ type = "prometheus", url = "http://127.0.0.1:{vm.port}/api/v1/write" }}').start()
        p = prometheus(self, f"""
scrape_configs:
  - job_name: gateway
    static_configs: [{{targets: ["127.0.0.1:{g.admin}"]}}]
remote_write:
  - url: http://127.0.0.1:{g.http}/api/v1/write
    queue_config: {{batch_send_deadline: 1s}}
""")
        wait_for("a few scrapes", lambda: any(
            len(v) >= 4 for v in prom_samples(p, 'tidegate_series', time.time(), 60).values()), 30)
        p_at = time.time()
        mine = prom_samples(p, '{job="gateway",__name__=~"tidegate_.*|scrape_.*|up"}', p_at, 60)
        n = sum(len(v) for v in mine.values())
        self.assertGreater(n, 50)

        def compare():
            got = {k: {(round(t / 1000, 3), float(v)) for t, v in samples}
                   for k, samples in vm_export(vm, '{job="gateway"}').items()}
            missing = [(dict(k), s) for k, v in mine.items() for s in v
                       if (round(s[0], 3), float(s[1])) not in got.get(k, ())]
            return [] if missing else ["complete"]

        wait_for("every sample that Prometheus holds to be in VictoriaMetrics", compare, 30)
        g.ledger("vm")

    def test_exemplars_of_a_real_prometheus_arrive_at_another(self):
        # Prometheus sends each exemplar in a TimeSeries without samples.
        target = OpenMetricsTarget(self)
        storage = ["--enable-feature=exemplar-storage"]
        b = prometheus(self, extra=storage)
        g = Gateway(self, f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{b.port}/api/v1/write" }}').start()
        a = prometheus(self, f"""
scrape_configs:
  - job_name: target
    static_configs: [{{targets: ["127.0.0.1:{target.port}"]}}]
remote_write:
  - url: http://127.0.0.1:{g.http}/api/v1/write
    send_exemplars: true
    queue_config: {{batch_send_deadline: 1s}}
""", extra=storage)
        want = wait_for("exemplars of both series at the first", lambda: sorted(
            len(v) >= 3 for v in prom_exemplars(a).values()) == [True, True] and prom_exemplars(a), 30)
        wait_for("all of them at the second", lambda: all(
            v <= prom_exemplars(b).get(k, set()) for k, v in want.items()), 30)
        dropped = {k: v for k, v in g.metrics().items() if "exemplars_dropped" in k}
        self.assertTrue(dropped and not any(dropped.values()), dropped)
        g.ledger("prom")
        self.assertEqual(g.dead_letters("prom"), [])

    def test_native_histograms_go_through(self):
        p = prometheus(self, extra=["--enable-feature=native-histograms"])
        g = Gateway(self, f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{p.port}/api/v1/write" }}').start()

        def send(name, *args, **kw):
            labels = field(1, field(1, "__name__") + field(2, name))
            return g.post("/api/v1/write", snappy_literal(field(1, labels + native_histogram(NOW * 1000, *args, **kw))), RW_HEADERS)

        self.assertEqual(send("nh_int", 3, [1, 2], sum=1.5).status, 204)
        self.assertEqual(send("nh_gauge", 4, [4], sum=2.5, hint=3).status, 204)
        self.assertEqual(send("nh_float", 1.5, [0.5, 0.25], sum=3.5, schema=3).status, 204)
        bad = send("nh_bad", 99, [1, 1])
        self.assertEqual(bad.status, 400)
        self.assertIn('series "nh_bad": a native histogram\'s count is 99, but its buckets hold 2', bad.text)
        g.wait_delivered("prom", 3)

        def value(expression):
            q = urllib.parse.urlencode({"query": expression, "time": NOW + 1})
            result = request("GET", p.port, "/api/v1/query?" + q).json()["data"]["result"]
            return float(result[0]["value"][1]) if result else None

        for name, count, total in [("nh_int", 3, 1.5), ("nh_gauge", 4, 2.5), ("nh_float", 1.5, 3.5)]:
            self.assertEqual((value(f"histogram_count({name})"), value(f"histogram_sum({name})")), (count, total), name)
        self.assertEqual(g.dead_letters("prom"), [])

    def test_prometheus_as_target_and_out_of_bounds_as_dead_letters(self):
        p = prometheus(self, out_of_order="0s")
        g = Gateway(self, f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{p.port}/api/v1/write" }}').start()
        good = [((NOW - 60 + i) * 1000, float(i)) for i in range(30)]
        labels = {"__name__": "to_prom", "k": "v"}
        self.assertEqual(g.post("/api/v1/write", write_request([(labels, good)]), RW_HEADERS).status, 204)
        g.wait_delivered("prom", 30)
        # the same time with another value: refused permanently by Prometheus, alone
        clash = [(good[3][0], 99.0), (NOW * 1000, 100.0)]
        self.assertEqual(g.post("/api/v1/write", write_request([(labels, clash)]), RW_HEADERS).status, 204)
        wait_for("the clash to end", lambda: g.ledger("prom")["waiting"] == 0)
        got = prom_samples(p, "to_prom", NOW + 1, 3600)
        values = [(round(t * 1000), float(v)) for t, v in got[frozenset(labels.items())]]
        self.assertEqual(values, good + [(NOW * 1000, 100.0)])
        letters = g.dead_letters("prom")
        self.assertEqual([(x["time_ns"] // MS, x["value"]) for x in letters], [(good[3][0], 99.0)])
        self.assertIn("out of order", letters[0]["reason"])

    def test_too_old_for_prometheus_becomes_a_dead_letter_and_the_rest_goes_on(self):
        p = prometheus(self, out_of_order="1h")
        g = Gateway(self, f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{p.port}/api/v1/write" }}').start()
        labels = {"__name__": "clocks", "k": "v"}
        for second in (NOW, NOW - 86400, NOW + 1):
            body = write_request([(labels, [(second * 1000, 1.0)])])
            self.assertEqual(g.post("/api/v1/write", body, RW_HEADERS).status, 204)
            wait_for("its delivery", lambda: g.ledger("prom")["waiting"] == 0)
        self.assertEqual(g.ledger("prom")["delivered"], 2)
        letters = g.dead_letters("prom")
        self.assertEqual([x["time_ns"] // SECOND for x in letters], [NOW - 86400])
        self.assertIn("too old sample", letters[0]["reason"])


npm_trouble = []  # once the registry was not to be had, the others do not wait for it too


def npm_install(folder):
    """Runs npm install there. None, or why it failed."""
    if npm_trouble:
        return npm_trouble[0]
    try:
        r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts=false", "--fetch-retries=1",
                            "--fetch-timeout=60000"], cwd=folder, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        npm_trouble.append("npm install took over 240 s")
        return npm_trouble[0]
    if r.returncode == 0:
        return None
    lines = [line for line in r.stderr.splitlines() if line.lower().startswith("npm err")]
    npm_trouble.append(lines[0] if lines else f"npm install ended with {r.returncode}")
    return npm_trouble[0]


def npm_folder(name):
    """node_modules of tests/e2e/<name>, installed on first use; skips where npm cannot install it."""
    need("node")
    need("npm")
    folder = os.path.join(ROOT, "tests/e2e", name)
    target = os.path.join(ROOT, "build", "npm", name)
    if not os.path.exists(os.path.join(target, "node_modules", ".done")):
        os.makedirs(target, exist_ok=True)
        for f in os.listdir(folder):
            if os.path.isfile(os.path.join(folder, f)):
                shutil.copy(os.path.join(folder, f), target)
        why = npm_install(target)
        if why:
            raise unittest.SkipTest(f"needs npm packages of tests/e2e/{name}: {why}")
        open(os.path.join(target, "node_modules", ".done"), "w").close()
    for f in os.listdir(folder):
        if os.path.isfile(os.path.join(folder, f)):
            shutil.copy(os.path.join(folder, f), target)
    return target


class OpenTelemetrySdk(unittest.TestCase):
    def test_sdk_to_parquet_read_by_duckdb(self):
        sdk = npm_folder("otel_sdk")
        oracle = npm_folder("parquet_oracle")
        g = Gateway(self, 'archive = { type = "parquet", dir = "parquet", linger = "200ms" }').start()
        r = subprocess.run(["node", "send.mjs", f"http://127.0.0.1:{g.http}/v1/metrics"], cwd=sdk,
                           capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        want = [json.loads(line) for line in r.stdout.splitlines()]
        self.assertGreater(len(want), 10)
        g.wait_delivered("archive", len(want))
        files = [os.path.join(d, f) for d, _, fs in os.walk(os.path.join(g.dir, "parquet"))
                 for f in fs if f.endswith(".parquet")]
        for reader in ("duckdb", "hyparquet"):
            r = subprocess.run(["node", "read.mjs", "--reader", reader, *files], cwd=oracle, capture_output=True,
                               text=True, timeout=60)
            self.assertEqual(r.returncode, 0, r.stderr)
            rows = [json.loads(line) for line in r.stdout.splitlines()]
            seen = want
            if reader == "duckdb":  # shows TIMESTAMP(NANOS, UTC) in whole microseconds
                seen = [dict(w, time=str(int(w["time"]) // 1000 * 1000)) for w in want]
            self.assertEqual(self.simplify(rows), self.simplify(seen), reader)

    @staticmethod
    def simplify(rows):
        """What both sides can say of a point, in one order."""
        keys = ("name", "kind", "unit", "time", "value", "value_int", "count", "sum", "bounds", "bucket_counts")
        out = []
        for r in rows:
            row = {k: r.get(k) for k in keys if r.get(k) is not None and r.get(k) != []}
            row["tags"] = {k: v for k, v in r["tags"].items()
                           if not k.startswith(("telemetry.", "otel.")) and k != "service.name"}
            out.append(json.dumps(row, sort_keys=True))
        return sorted(out)
