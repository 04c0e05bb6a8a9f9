"""What the end-to-end cases share: a gateway in a temporary folder, real servers on free ports, fakes, encoders.

Rules: port 0 or a probed free port, wait on a condition with a deadline (never a fixed sleep), stop by pid.
"""
import contextlib
import gzip
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
MS = 1_000_000
SECOND = 1_000_000_000


def wait_for(what, condition, seconds=20.0):
    """Polls until `condition()` is true and returns its value; fails naming `what` at the deadline."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (OSError, http.client.HTTPException) as e:
            last = e
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting for {what}; last seen: {last!r}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def need(program):
    path = shutil.which(program)
    if not path:
        raise unittest.SkipTest(f"needs {program}")
    return path


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.body)


def request(method, port, path, body=b"", headers=None, timeout=30):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return Reply(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
    finally:
        c.close()


# --- the gateway ------------------------------------------------------------------------------------------------


class Gateway:
    """`backends` is Lua text of the backends table; `rules` maps a script's name to its text."""

    def __init__(self, case, backends, rules=None, extra="", log="", limits="", workers=2):
        self.case = case
        self.dir = tempfile.mkdtemp(prefix="tidegate-e2e-")
        case.addCleanup(self.cleanup)
        self.proc = None
        self.log_path = os.path.join(self.dir, "gateway.log")
        self.n_starts = 0
        for name in ("tags", "routing", "strategy", "retention"):
            text = (rules or {}).get(name)
            if text is None:
                shutil.copy(os.path.join(ROOT, "scripts", name + ".lua"), self.dir)
            else:
                self.write_rule(name, text)
        self.config = os.path.join(self.dir, "gateway.lua")
        with open(self.config, "w") as f:
            f.write(
                f"""return {{
  workers = {workers},
  listen = {{ http = "127.0.0.1:0", admin = "127.0.0.1:0" }},
  log = {{ dir = "log", sync = "always", {log} }},
  rules = {{ tags = "tags.lua", routing = "routing.lua", strategy = "strategy.lua", retention = "retention.lua" }},
  limits = {{ drain_timeout = "5s", {limits} }},
  dead_letters = {{ dir = "dead" }},
  backends = {{ {backends} }},
  {extra}
}}
"""
            )

    def write_rule(self, name, text):
        with open(os.path.join(self.dir, name + ".lua"), "w") as f:
            f.write(text)

    def start(self, env=None, before=None):
        """`before` is called in the new process before it becomes the gateway."""
        ready = os.path.join(self.dir, f"ready-{self.n_starts}.json")
        self.n_starts += 1
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen(
                [os.environ["TIDEGATE_BINARY"], "run", "--config", self.config, "--ready-file", ready],
                stdout=log, stderr=log, env={**os.environ, **(env or {})}, preexec_fn=before)

        def is_ready():
            if self.proc.poll() is not None:
                raise AssertionError(f"gateway ended with {self.proc.returncode}:\n{self.log_text()}")
            with contextlib.suppress(FileNotFoundError, ValueError), open(ready) as f:
                return json.load(f)

        try:
            info = wait_for("the gateway's ready file", is_ready)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log_text()}") from None
        self.http = info["http_port"]
        self.admin = info["admin_port"]
        return self

    def log_text(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()[-6000:]

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.proc.send_signal(signal.SIGTERM)
        code = self.proc.wait(60)
        self.proc = None
        return code

    def kill(self):
        self.proc.kill()
        self.proc.wait()
        self.proc = None

    def cleanup(self):
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        result = self.case._outcome.result
        failed = any(test is self.case for test, _ in result.failures + result.errors)
        if os.environ.get("TIDEGATE_E2E_VERBOSE") or failed:
            print(self.log_text(), file=sys.stderr)
        shutil.rmtree(self.dir, ignore_errors=True)

    # requests
    def post(self, path, body, headers=None):
        return request("POST", self.http, path, body, headers)

    def otlp(self, body, **headers):
        return self.post("/v1/metrics", body, {"Content-Type": "application/x-protobuf", **headers})

    def influx(self, text, path="/write", **headers):
        return self.post(path, text.encode() if isinstance(text, str) else text, headers)

    def status(self):
        return request("GET", self.admin, "/api/status").json()

    def backend(self, name):
        return next(b for b in self.status()["backends"] if b["name"] == name)

    def metrics(self):
        values = {}
        for line in request("GET", self.admin, "/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def ledger(self, name):
        ledger = self.backend(name)["ledger"]
        got = ledger["received"] + ledger["rewound"]
        parts = sum(ledger[k] for k in
                    ("before", "delivered", "waiting", "inexpressible", "dead_lettered", "dropped", "elsewhere", "lost",
                     "skipped"))
        self.case.assertEqual(got, parts, f"the ledger of {name} does not balance: {ledger}")
        return ledger

    def wait_delivered(self, name, n, seconds=30):
        return wait_for(f"{n} points delivered to {name} ({self.status()})",
                        lambda: self.ledger(name)["delivered"] >= n and self.ledger(name), seconds)

    def dead_letters(self, name):
        path = os.path.join(self.dir, "dead", name + ".jsonl")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return [json.loads(line) for line in f]

    def cli(self, *words, timeout=60):
        return subprocess.run([os.environ["TIDEGATE_BINARY"], *words], capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL)


# --- real servers -------------------------------------------------------------------------------------------------


class Server:
    def __init__(self, case, argv, port, ready_path, ready_status, cwd=None):
        self.dir = cwd
        self.port = port
        self.argv = argv
        self.ready = (ready_path, ready_status)
        self.proc = None
        case.addCleanup(self.cleanup)
        self.start()

    def start(self):
        self.proc = subprocess.Popen(self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.dir)
        path, status = self.ready
        wait_for(self.argv[0], lambda: request("GET", self.port, path).status == status, 60)
        return self

    def stop(self):
        if self.proc:
            self.proc.terminate()
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
            self.proc = None

    def cleanup(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def victoria_metrics(case):
    binary, port, d = need("victoria-metrics"), free_port(), tempfile.mkdtemp(prefix="tidegate-vm-")
    return Server(case, [binary, f"-storageDataPath={d}/data", f"-httpListenAddr=127.0.0.1:{port}",
                         "-retentionPeriod=100y", "-search.latencyOffset=0s"], port, "/health", 200, d)


def vm_export(vm, match):
    """{series labels as frozenset: [(ms, value)...]} of everything that matches."""
    request("GET", vm.port, "/internal/force_flush")
    r = request("GET", vm.port, "/api/v1/export?" + urllib.parse.urlencode({"match[]": match}))
    out = {}
    for line in r.text.splitlines():
        j = json.loads(line)
        out.setdefault(frozenset(j["metric"].items()), []).extend(zip(j["timestamps"], j["values"]))
    return {k: sorted(v) for k, v in out.items()}


def prometheus(case, scrape="", out_of_order="30d", extra=()):
    binary, port, d = need("prometheus"), free_port(), tempfile.mkdtemp(prefix="tidegate-prom-")
    with open(f"{d}/p.yml", "w") as f:
        f.write(f"global: {{scrape_interval: 1s}}\nstorage: {{tsdb: {{out_of_order_time_window: {out_of_order}}}}}\n{scrape}")
    return Server(case, [binary, f"--config.file={d}/p.yml", f"--storage.tsdb.path={d}/data",
                         f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver",
                         "--web.enable-admin-api", *extra], port, "/-/ready", 200, d)


def prom_samples(server, selector, at_s, range_s):
    """{labels: [(s, text)...]} raw samples of the last range_s seconds before at_s."""
    q = urllib.parse.urlencode({"query": f"{selector}[{range_s}s]", "time": at_s})
    r = request("GET", server.port, "/api/v1/query?" + q).json()
    return {frozenset(x["metric"].items()): [(float(t), v) for t, v in x["values"]] for x in r["data"]["result"]}


def prom_exemplars(server):
    """{series labels: {(exemplar labels, value, ms)...}} of all series."""
    q = urllib.parse.urlencode({"query": '{__name__=~".+"}', "start": time.time() - 3600, "end": time.time() + 60})
    r = request("GET", server.port, "/api/v1/query_exemplars?" + q).json()
    return {frozenset(x["seriesLabels"].items()):
            {(frozenset(e["labels"].items()), float(e["value"]), round(e["timestamp"] * 1000)) for e in x["exemplars"]}
            for x in r["data"]}


class OpenMetricsTarget:
    """A scrape target with a counter and a histogram, a new exemplar for each at every scrape."""

    def __init__(self, case):
        outer = self
        self.scrapes = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.scrapes += 1
                n = outer.scrapes
                body = (f'# TYPE jobs counter\njobs_total {n} # {{trace_id="{n:032x}",span_id="{n:016x}"}} 1 {time.time():.3f}\n'
                        f'# TYPE d histogram\nd_bucket{{le="1"}} {n} # {{who="w{n}"}} 0.5 {time.time():.3f}\n'
                        f'd_bucket{{le="+Inf"}} {n}\nd_sum {n}\nd_count {n}\n# EOF\n').encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        case.addCleanup(self.server.server_close)
        case.addCleanup(self.server.shutdown)


def influxdb(case):
    binary, port, d = need("influxd"), free_port(), tempfile.mkdtemp(prefix="tidegate-influx-")
    with open(f"{d}/c.toml", "w") as f:
        f.write(f"""reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
dir = "{d}/meta"
[data]
dir = "{d}/data"
wal-dir = "{d}/wal"
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
""")
    s = Server(case, [binary, "run", "-config", f"{d}/c.toml"], port, "/ping", 204, d)
    r = request("POST", port, "/query?" + urllib.parse.urlencode({"q": "CREATE DATABASE test"}))
    assert r.status == 200, r.text
    return s


def influx_query(server, q):
    path = "/query?" + urllib.parse.urlencode({"db": "test", "q": q, "epoch": "ns"})
    return request("GET", server.port, path).json()["results"][0].get("series", [])


# --- fakes -----------------------------------------------------------------------------------------------------------


class Fake:
    """An HTTP sink. `answer(path, body)` gives (status, headers, body) or None to cut the connection."""

    def __init__(self, case, answer=None):
        fake = self
        self.lock = threading.Lock()
        self.bodies = []
        self.answer = answer or (lambda path, body: (204, {}, b""))

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                a = fake.answer(self.path, body)
                if a is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, text = a
                if status < 300:
                    with fake.lock:
                        fake.bodies.append(body)
                self.send_response(status)
                for k, v in headers.items():
                    self.send_header(k, v)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self):
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *args):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        case.addCleanup(self.close)

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def lines(self):
        with self.lock:
            return [line for body in self.bodies for line in body.decode().splitlines()]


# --- encoders: just enough protobuf and snappy to be a sender of our own, independent of the C core -------------------


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """bytes/str: length-delimited, int: varint, float: fixed64."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3) + varint(value)


def fixed64(number, value):
    return varint(number << 3 | 1) + struct.pack("<Q", value & (1 << 64) - 1)


def attribute(number, key, value):
    if isinstance(value, bool):
        any_value = field(2, int(value))
    elif isinstance(value, int):
        any_value = field(3, value)
    elif isinstance(value, float):
        any_value = field(4, value)
    else:
        any_value = field(1, value)
    return field(number, field(1, key) + field(2, any_value))


def number_point(ts_ns, value, start_ns=0, **attributes):
    out = b"".join(attribute(7, k, v) for k, v in attributes.items())
    if start_ns:
        out += fixed64(2, start_ns)
    out += fixed64(3, ts_ns)
    return out + (fixed64(6, value) if isinstance(value, int) else field(4, value))


def gauge(name, points, unit=""):
    return field(1, name) + field(3, unit) + field(5, b"".join(field(1, p) for p in points))


def counter(name, points, unit=""):
    return (field(1, name) + field(3, unit)
            + field(7, b"".join(field(1, p) for p in points) + field(2, 2) + field(3, 1)))


def otlp_request(metrics, **resource):
    res = b"".join(attribute(1, k.replace("__", "."), v) for k, v in resource.items())
    return field(1, field(1, res) + field(2, b"".join(field(2, m) for m in metrics)))


def snappy_literal(data):
    """Valid snappy block format with literals only."""
    out = bytearray(varint(len(data)))
    for i in range(0, len(data), 65536):
        chunk = data[i:i + 65536]
        out += bytes([61 << 2]) + struct.pack("<H", len(chunk) - 1) + chunk
    return bytes(out)


def read_varint(data, at):
    n = shift = 0
    while True:
        b = data[at]
        n |= (b & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if b < 0x80:
            return n, at


def snappy_plain(data):
    """What a snappy block holds."""
    size, at = read_varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            n = tag >> 2
            if n >= 60:
                more = n - 59
                n = int.from_bytes(data[at:at + more], "little")
                at += more
            out += data[at:at + n + 1]
            at += n + 1
            continue
        width = {1: 1, 2: 2, 3: 4}[tag & 3]
        back = int.from_bytes(data[at:at + width], "little")
        n = (tag >> 2) + 1
        if width == 1:
            back, n = back | (tag >> 5) << 8, (tag >> 2 & 7) + 4
        at += width
        for _ in range(n):
            out.append(out[-back])
    assert len(out) == size
    return bytes(out)


def fields(message):
    """[(number, value)...] of a protobuf message; a number, or the bytes of anything longer."""
    out, at = [], 0
    while at < len(message):
        tag, at = read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(message, at)
        else:
            n, at = (8, at) if kind == 1 else (4, at) if kind == 5 else read_varint(message, at)
            value, at = message[at:at + n], at + n
        out.append((tag >> 3, value))
    return out


def sent_metadata(fake):
    """{family: (type, help, unit)} of the remote write requests that a Fake got."""
    out = {}
    with fake.lock:
        for body in fake.bodies:
            for number, value in fields(snappy_plain(body)):
                if number == 3:
                    m = dict(fields(value))
                    out[m[2].decode()] = (m.get(1, 0), m.get(4, b"").decode(), m.get(5, b"").decode())
    return out


def metadata_request(families):
    """families: {name: (type, help, unit)}; a request as Prometheus sends it once a minute."""
    return snappy_literal(b"".join(
        field(3, field(1, kind) + field(2, name) + field(4, text) + (field(5, unit) if unit else b""))
        for name, (kind, text, unit) in families.items()))


def write_request(series):
    """series: [({label: value}, [(ms, float)])]"""
    out = b""
    for labels, samples in series:
        body = b"".join(field(1, field(1, k) + field(2, v)) for k, v in sorted(labels.items()))
        body += b"".join(field(2, field(1, v) + field(2, ms)) for ms, v in samples)
        out += field(1, body)
    return snappy_literal(out)


def zigzag(n):
    return (n << 1) ^ (n >> 63)


def native_histogram(ms, count, buckets, schema=0, sum=0.0, hint=0, bounds=()):
    """One native histogram (field 4 of a TimeSeries): buckets from index 0 on, floats when count is one."""
    is_float = isinstance(count, float)
    body = field(2 if is_float else 1, count) + field(3, sum) + field(4, zigzag(schema) & 0xffffffff)
    body += field(7, 0.0) if is_float else field(6, 0)
    if buckets:
        body += field(11, field(1, 0) + field(2, len(buckets)))
        body += (field(13, b"".join(struct.pack("<d", b) for b in buckets)) if is_float else
                 field(12, b"".join(varint(zigzag(b - a)) for a, b in zip([0] + buckets, buckets))))
    body += field(14, hint) + field(15, ms)
    if bounds:
        body += field(16, b"".join(struct.pack("<d", b) for b in bounds))
    return field(4, body)


RW_HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy",
              "X-Prometheus-Remote-Write-Version": "0.1.0"}
