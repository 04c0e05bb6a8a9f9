"""TYPE, HELP and UNIT: from the sender to a Prometheus backend, also of points that waited over a restart."""
import os
import threading
import time
import unittest

from harness import *

FAMILIES = {"rpc_seconds": (3, "How long calls take.", "seconds"), "jobs": (1, "Jobs done.", "")}
SERIES = [{"__name__": "rpc_seconds_bucket", "le": "1"}, {"__name__": "rpc_seconds_sum"}, {"__name__": "jobs_total"}]


class Metadata(unittest.TestCase):
    def setUp(self):
        self.up = threading.Event()
        self.up.set()
        self.sink = Fake(self, lambda path, body: (204, {}, b"") if self.up.is_set() else (503, {}, b"down"))
        self.g = Gateway(self, f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{self.sink.port}/api/v1/write", '
                               'retry_min = "50ms", retry_max = "200ms" }').start()
        self.n_ms = int(time.time() * 1000) - 3600000

    def send(self):
        self.n_ms += 1000
        r = self.g.post("/api/v1/write", write_request([(s, [(self.n_ms, 1.0)]) for s in SERIES]), RW_HEADERS)
        self.assertEqual(r.status, 204, r.text)

    def say(self, families):
        self.assertEqual(self.g.post("/api/v1/write", metadata_request(families), RW_HEADERS).status, 204)

    def wait_told(self, want):
        def is_told():
            self.send()
            return sent_metadata(self.sink) == want
        wait_for(f"{want} at the backend", is_told)

    def test_what_prometheus_says_after_its_series_goes_on(self):
        self.send()
        self.g.wait_delivered("prom", 3)
        self.assertEqual(sent_metadata(self.sink), {})
        self.say({**FAMILIES, "not_here": (2, "Of a metric that does not come.", "")})
        m = self.g.metrics()
        self.assertEqual(m['tidegate_receive_metadata_total{protocol="remote_write"}'], 3)
        self.assertEqual(m['tidegate_receive_metadata_dropped_total{protocol="remote_write",reason="other_text"}'], 0)
        self.wait_told(FAMILIES)
        self.say({"jobs": (1, "In another exporter's words.", "")})
        self.assertEqual(self.g.metrics()['tidegate_receive_metadata_dropped_total{protocol="remote_write",reason="other_text"}'], 1)

    def test_points_of_before_a_crash_have_theirs(self):
        self.up.clear()
        self.say(FAMILIES)
        pages = field(2, "Pages seen.") + gauge("pages", [number_point(time.time_ns(), 1.0)])
        self.assertEqual(self.g.otlp(otlp_request([pages])).status, 200)
        self.send()
        wait_for("the file", lambda: os.path.exists(os.path.join(self.g.dir, "log", "help")))
        self.g.kill()
        with self.sink.lock:
            self.sink.bodies.clear()
        self.up.set()
        self.g.start()
        want = {**FAMILIES, "pages": (2, "Pages seen.", "")}
        wait_for("what was said before the crash", lambda: sent_metadata(self.sink) == want)

    def test_damaged_file_is_said_and_stops_nothing(self):
        self.say(FAMILIES)
        self.assertEqual(self.g.stop(), 0)
        path = os.path.join(self.g.dir, "log", "help")
        with open(path, "r+b") as f:
            f.seek(20)
            f.write(b"\xff\xff")
        self.g.start()
        self.assertIn("log/help are not used: it is damaged", self.g.log_text())
        self.send()
        self.g.wait_delivered("prom", 3)
        self.say(FAMILIES)
        self.wait_told(FAMILIES)
