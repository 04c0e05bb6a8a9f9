"""Everything at once: senders of three protocols, backends that fail and hang, reloads, rewinds, queries, kills, stops.

Twelve seconds in every run; for longer, and with a sanitizer's binary:

    TIDEGATE_SOAK_SECONDS=900 tests/e2e/run --binary build/tsan/tidegate -k Soak

Seen to hold at every moment: each ledger balances; no sanitizer reports; a stop takes at most drain_timeout + 2 s; every
acknowledged point of the tracked sender is in the archive at the end.
"""
import glob
import os
import random
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import *

DRAIN_S = 2
STOP_LIMIT_S = DRAIN_S + 2
MAX_DEAD_LETTER_BYTES = 16 << 20  # of each backend: few enough that a long run comes to the limit
# Rules may do what they like with other series; the tracked ones (t_v) go everywhere under each of them.
RULES = [
    {"routing": "return function(s) return nil end", "tags": "return function(s) end"},
    {"routing": 'return function(s) if s.name:find("^t_") then return nil end return to("archive") end',
     "tags": 'return function(s) s.tags.added = "x" end'},
    {"routing": 'return function(s) if s.name:find("^noise_") then return drop("noise") end return nil end',
     "strategy": 'return function(s, targets) if s.name:find("^t_") then return primary_with_async_replication("archive") end return logged() end'},
    {"tags": 'return function(s) if s.name:find("^noise_") then s.tags.k = nil end end'},  # merges series
    {"tags": 'return function(s) if s.name:find("^noise_") then error("of its own making") end end'},
    {"tags": 'return function(s) if s.name:find("^slow_") then while true do end end end'},
]
BROKEN = {"routing": "return function(s) oops( end"}
DEFAULTS = {"tags": "return function(s) end", "routing": "return function(s) return nil end",
            "strategy": "return function(s, targets) return logged() end", "retention": "return function(s) return nil end"}


class Moody:
    """An answer for Fake: well, failing, or silent, changing every few seconds."""

    def __init__(self, rng):
        self.rng, self.mood, self.until = rng, "well", 0.0
        self.lock = threading.Lock()
        self.always_well = False

    def __call__(self, path, body):
        with self.lock:
            now = time.monotonic()
            if now > self.until:
                self.mood = self.rng.choice(["well", "well", "well", "failing", "silent", "cut"])
                self.until = now + self.rng.uniform(0.3, 3)
            mood = "well" if self.always_well else self.mood
        if mood == "failing":
            return 503, {"Retry-After": "0"}, b"down"
        if mood == "cut":
            return None
        if mood == "silent":
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not self.always_well:
                time.sleep(0.05)
        return 204, {}, b""


class Forgetful(Fake):
    """Keeps no bodies: a long run sends many."""

    def __init__(self, case, answer):
        super().__init__(case, answer)
        self.bodies = type("Nothing", (list,), {"append": lambda self, x: None})()


class Soak(unittest.TestCase):
    def setUp(self):
        self.seconds = float(os.environ.get("TIDEGATE_SOAK_SECONDS", "12"))
        self.seed = int(os.environ.get("TIDEGATE_SOAK_SEED", "20261125"))
        self.rng = random.Random(self.seed)
        self.lock = threading.Lock()
        self.acked, self.next_no = set(), 1
        self.base_ms = int(time.time() * 1000)
        self.stop_senders = threading.Event()
        self.counts = {}
        self.longest_stop = 0.0

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- senders, each in a thread; the gateway may be away at any moment ---

    def tracked(self):
        rng = random.Random(self.seed + 1)
        while not self.stop_senders.is_set():
            n = rng.choice([1, 5, 30])
            first, self.next_no = self.next_no, self.next_no + n
            # the number tells the time, so that the archive can be asked for them part by part
            text = "\n".join(f"t,k={i % 5} v={i}i {self.base_ms + i}" for i in range(first, first + n))
            try:
                status = request("POST", self.g.http, "/write?precision=ms", text.encode(), timeout=20).status
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            if status == 204:
                with self.lock:
                    self.acked.update(range(first, first + n))
            time.sleep(rng.uniform(0, 0.06))

    def noise(self):
        rng = random.Random(self.seed + 2)
        while not self.stop_senders.is_set():
            name = rng.choice(["noise", "noise", "noise", "slow"])
            text = "\n".join(f'{name},k={rng.randrange(10**6)} v={rng.random()!r},s="x",b=t' for _ in range(rng.choice([1, 20])))
            try:
                request("POST", self.g.http, "/api/v2/write", text.encode(), timeout=20)
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(rng.uniform(0, 0.1))

    def load(self, protocol):
        while not self.stop_senders.is_set():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self.g.cli("send", "load", "--to", f"http://127.0.0.1:{self.g.http}", "--protocol", protocol, "--rate", "4000",
                           "--points", "8000", "--series", "500", "--connections", "2", "--retry-for", "1s", "-q", timeout=60)
            time.sleep(0.05)

    # --- what operators do ---

    def put_rules(self, rules):
        for name, text in {**DEFAULTS, **rules}.items():
            self.g.write_rule(name, text + "\n")

    def do_reload(self):
        rules = self.rng.choice(RULES + [BROKEN])
        self.put_rules(rules)
        if self.rng.random() < 0.5:
            self.g.proc.send_signal(signal.SIGHUP)
        else:
            force = self.rng.choice(["", "?force=1"])
            r = request("POST", self.g.admin, "/-/reload" + force, timeout=60)
            self.assertIn(r.status, (200, 400, 503), r.text)
        if rules is BROKEN:  # what is on disk counts at the next start
            self.put_rules(self.rng.choice(RULES))

    def do_rewind(self):
        # Times may lie before a cursor or behind it; only "end" may skip, and the archive skips nothing.
        backend = self.rng.choice(["archive", "influx", "prom"])
        to = self.rng.choice(["start", "1s", "200ms"] if backend == "archive" else ["start", "1s", "end"])
        r = request("POST", self.g.admin, f"/-/rewind?backend={backend}&to={to}", timeout=60)
        self.assertIn(r.status, (200, 400, 503), r.text)

    def do_query(self):
        path = self.rng.choice(["/api/query?name=t_v&limit=50", "/api/query?name=nothing_like_it", "/api/query?name=noise_v&backend=archive",
                                "/api/query?name=t_v&backend=influx", "/api/query?name=load&since=5s", "/metrics", "/",
                                "/api/explain?series=t_v%7Bk%3D%221%22%7D", "/api/explain?series=slow_v"])
        if self.rng.random() < 0.3:  # one who does not wait for the answer
            with socket.create_connection(("127.0.0.1", self.g.admin)) as s:
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return
        r = request("GET", self.g.admin, path, timeout=60)
        self.assertIn(r.status, (200, 400, 404, 502, 503, 504), f"{path}: {r.status} {r.text[:500]}")

    def do_stop(self):
        began = time.monotonic()
        so_far = os.path.getsize(self.g.log_path)

        def has_stopped():
            with open(self.g.log_path, "rb") as f:
                f.seek(so_far)
                return b"run: stopped" in f.read()

        self.g.proc.send_signal(signal.SIGTERM)
        # A leak check after the last message is the sanitizer's time, not the gateway's.
        while self.g.proc.poll() is None and not has_stopped():
            time.sleep(0.01)
        took = time.monotonic() - began
        code = self.g.proc.wait(120)
        self.longest_stop = max(self.longest_stop, took)
        self.g.proc = None
        self.assertEqual(code, 0, self.g.log_text())
        self.assertLessEqual(took, STOP_LIMIT_S, self.g.log_text())
        self.start()

    def do_kill(self):
        self.g.kill()
        self.start()

    def do_wait(self):
        time.sleep(self.rng.uniform(0.05, 0.5))

    def start(self):
        self.g.start({"TSAN_OPTIONS": f"log_path={self.g.dir}/sanitizer exitcode=66 second_deadlock_stack=1",
                      "ASAN_OPTIONS": f"log_path={self.g.dir}/sanitizer exitcode=66",
                      "UBSAN_OPTIONS": f"log_path={self.g.dir}/sanitizer print_stacktrace=1"})

    def make_room(self):
        """What the message of full dead letters asks of the operator: the file is moved away."""
        for path in glob.glob(self.g.dir + "/dead/*.jsonl"):
            if os.path.getsize(path) > MAX_DEAD_LETTER_BYTES * 3 // 4:
                os.remove(path)
                self.count("dead letters moved away")

    def check(self):
        self.make_room()
        for name in ("archive", "influx", "prom"):
            ledger = self.g.ledger(name)
            self.assertEqual(ledger["lost"], 0, self.g.log_text())
            if name == "archive":
                self.assertEqual(ledger["skipped"], 0, self.g.log_text())
        self.no_reports()

    def no_reports(self):
        for path in glob.glob(self.g.dir + "/sanitizer.*"):
            with open(path, errors="replace") as f:
                self.fail(f"seed {self.seed}: {f.read()[:20000]}")

    def test_everything_at_once(self):
        moods = [Moody(random.Random(self.seed + i)) for i in (3, 4)]
        influx, prom = Forgetful(self, moods[0]), Forgetful(self, moods[1])
        more = 'retry_min = "20ms", retry_max = "500ms", timeout = "30s"'
        self.g = Gateway(
            self,
            'archive = { type = "parquet", dir = "archive", linger = "500ms" },'
            f'influx = {{ type = "influxdb", url = "http://127.0.0.1:{influx.port}", database = "x", {more} }},'
            f'prom = {{ type = "prometheus", url = "http://127.0.0.1:{prom.port}/api/v1/write", {more} }}',
            rules=DEFAULTS, log='segment_bytes = "1MiB", max_bytes = "256MiB", keep = "20s"',
            limits=f'drain_timeout = "{DRAIN_S}s", series = 200000, idle_series = "5s"')
        with open(self.g.config) as f:  # the harness has its own drain_timeout and dead letters
            text = f.read().replace('drain_timeout = "5s", ', "").replace(
                'dir = "dead"', f'dir = "dead", max_bytes = "{MAX_DEAD_LETTER_BYTES >> 20}MiB"')
        with open(self.g.config, "w") as f:
            f.write(text)
        self.start()
        senders = [threading.Thread(target=self.tracked), threading.Thread(target=self.noise)]
        senders += [threading.Thread(target=self.load, args=(p,)) for p in ("otlp", "remote-write", "influx")]
        for t in senders:
            t.start()
        actions = [self.do_reload] * 6 + [self.do_rewind] * 2 + [self.do_query] * 8 + [self.do_wait] * 6 + [self.do_stop, self.do_kill]
        end = time.monotonic() + self.seconds
        try:
            while time.monotonic() < end:
                action = self.rng.choice(actions)
                self.count(action.__name__[3:])
                action()
                self.check()
        except BaseException:
            print(f"soak: seed {self.seed}")
            raise
        finally:
            self.stop_senders.set()
            for t in senders:
                t.join()
        for mood in moods:
            mood.always_well = True
        self.put_rules({})
        self.assertEqual(request("POST", self.g.admin, "/-/reload?force=1", timeout=60).status, 200)

        def is_delivered():
            self.make_room()
            return all(self.g.ledger(n)["waiting"] == 0 for n in ("archive", "influx", "prom"))

        wait_for("all to be delivered", is_delivered, 120 + self.seconds / 3)
        self.check()
        self.do_stop()
        self.assert_archived()
        self.check()
        self.assertEqual(self.g.stop(), 0)
        self.no_reports()
        print(f"soak: seed {self.seed}, {len(self.acked)} tracked points, {self.counts}, longest stop {self.longest_stop:.2f} s", flush=True)

    def assert_archived(self):
        have = set()
        step = 20000
        for first in range(1, self.next_no, step):
            start, end = ((self.base_ms + i) * MS for i in (first, first + step))
            r = request("GET", self.g.admin, f"/api/query?backend=archive&name=t_v&limit=1000000&start={start}&end={end}", timeout=120)
            self.assertEqual(r.status, 200, r.text[:500])
            answer = r.json()
            self.assertIsNone(answer["cut"])
            have.update(int(row["value"]) for row in answer["rows"])
        self.assertGreater(len(self.acked), 20)
        self.assertEqual(self.acked - have, set(), "acknowledged, but not in the archive")
