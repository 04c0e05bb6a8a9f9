"""What goes wrong: backends that fail, processes that die, bodies that are broken, logs that are full."""
import os
import random
import resource
import select
import shutil
import signal
import threading
import time
import unittest

from harness import *


def influx_backend(port, name="sink", more=""):
    return f'{name} = {{ type = "influxdb", url = "http://127.0.0.1:{port}", database = "x", retry_min = "20ms", retry_max = "200ms", {more} }}'


def times(fake):
    return [int(line.rsplit(" ", 1)[1]) for line in fake.lines()]


class WipedLog(unittest.TestCase):
    def test_parquet_keeps_the_files_of_the_former_log(self):
        """The log's folder is wiped, the Parquet folder is not: the new log has the same positions, and its own points."""
        archive = 'archive = { type = "parquet", dir = "pq", linger = "0s" }'
        sink = Fake(self)
        g = Gateway(self, archive).start()
        base = int(time.time()) * 10**9
        n = 0
        for _ in range(3):
            self.assertEqual(g.influx("\n".join(f"m v={i}i {base + i}" for i in range(n, n + 50))).status, 204)
            n += 50
            g.wait_delivered("archive", n)
        first = g.status()["log"]["id"]
        g.stop()
        shutil.rmtree(os.path.join(g.dir, "log"))
        # the new log has passed the former one's positions when the archive is put back
        with open(g.config) as f:
            text = f.read()
        with open(g.config, "w") as f:
            f.write(text.replace(archive, influx_backend(sink.port)))
        g.start()
        self.assertNotEqual(g.status()["log"]["id"], first)
        for _ in range(9):
            self.assertEqual(g.influx("\n".join(f"m v={i}i {base + i}" for i in range(n, n + 50))).status, 204)
            n += 50
        g.stop()
        with open(g.config, "w") as f:
            f.write(text)
        g.start()
        g.wait_delivered("archive", 450)
        got = g.cli("query", "--since", "1h", "--limit", "5000", "--json", "--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(got.returncode, 0, got.stderr)
        values = sorted(row["value"] for row in json.loads(got.stdout)["rows"])
        self.assertEqual(values, list(range(n)))


class FileSizeLimit(unittest.TestCase):
    def test_ulimit_f_is_one_more_failing_write(self):
        """With RLIMIT_FSIZE no signal kills the gateway: log and Parquet go on in smaller files, dead letters wait for room."""
        refusing = Fake(self, lambda path, body: (400, {}, b'{"error":"not these"}'))
        g = Gateway(self, 'archive = { type = "parquet", dir = "pq", linger = "0s" }, '
                    + influx_backend(refusing.port, "refusing"))
        g.start()
        soft = 16_000
        resource.prlimit(g.proc.pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
        rng = random.Random(7)
        base = int(time.time()) * 10**9
        n = 0
        for _ in range(30):
            text = "\n".join(f"m,k={i % 50} v={rng.random()} {base + i}" for i in range(n, n + 100))
            self.assertEqual(g.influx(text).status, 204)
            n += 100
        g.wait_delivered("archive", n)
        wait_for("the dead letters to be at their limit",
                 lambda: "cannot grow any more (ulimit -f" in g.backend("refusing")["last_error"], 30)
        self.assertGreater(g.status()["log"]["segments"], 1)
        self.assertEqual(g.ledger("archive")["lost"], 0)
        resource.prlimit(g.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        letters = os.path.join(g.dir, "dead", "refusing.jsonl")
        self.assertLessEqual(os.path.getsize(letters), soft)
        wait_for("more dead letters", lambda: os.path.getsize(letters) > 2 * soft, 60)
        got = g.cli("query", "--since", "1h", "--limit", "100000", "--json", "--admin", f"127.0.0.1:{g.admin}",
                    "--backend", "archive")
        self.assertEqual(len(json.loads(got.stdout)["rows"]), n)


class OpenFilesLimit(unittest.TestCase):
    def test_senders_leave_open_files_for_the_rest(self):
        """With a low RLIMIT_NOFILE and more connections than that, admin port, reload, log and deliveries go on."""
        n_files = 160
        sink = Fake(self)
        g = Gateway(self, influx_backend(sink.port) + ', archive = { type = "parquet", dir = "pq", linger = "0s" }',
                    log='segment_bytes = "64KiB", max_bytes = "16MiB"')
        g.start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files)))
        first = http.client.HTTPConnection("127.0.0.1", g.http, timeout=30)
        self.addCleanup(first.close)
        first.connect()
        others = [socket.create_connection(("127.0.0.1", g.http), timeout=30) for _ in range(2 * n_files)]
        for s in others:
            self.addCleanup(s.close)
        wait_for("the admin port", lambda: request("GET", g.admin, "/healthz", timeout=5).status == 200)
        wait_for("an answer to those over the limit", lambda: len(select.select(others, [], [], 0)[0]) > n_files)
        n, base, rng = 0, int(time.time()) * 10**9, random.Random(8)
        for _ in range(40):
            text = "\n".join(f"m,k={i % 50} v={rng.random()} {base + i}" for i in range(n, n + 500))
            first.request("POST", "/write", text)
            reply = first.getresponse()
            reply.read()
            self.assertEqual(reply.status, 204)
            n += 500
        self.assertEqual(request("POST", g.admin, "/-/reload").status, 200)
        for name in ("sink", "archive"):
            self.assertEqual(g.wait_delivered(name, n)["lost"], 0)
        self.assertGreater(g.status()["log"]["segments"], 1)
        self.assertNotIn("Too many open files", g.log_text())
        self.assertIn(f"only {n_files} open files are allowed: senders get ", g.log_text())


class RandomKill(unittest.TestCase):
    def test_kill_9_loses_nothing_acknowledged(self):
        """Senders write while the gateway is killed again and again; each acknowledged point reaches the sink."""
        sink = Fake(self)
        g = Gateway(self, influx_backend(sink.port), log='segment_bytes = "64KiB", max_bytes = "16MiB"').start()
        acked, lock, stop = set(), threading.Lock(), threading.Event()
        counter = [0]

        def sender(seed):
            rng = random.Random(seed)
            while not stop.is_set():
                with lock:
                    first = counter[0] + 1
                    n = rng.choice([1, 3, 40])
                    counter[0] += n
                text = "\n".join(f"m,s={seed},k={i % 5} v={i}i {i}" for i in range(first, first + n))
                try:
                    status = g.influx(text).status
                except (OSError, http.client.HTTPException):
                    time.sleep(0.01)
                    continue
                if status == 204:
                    with lock:
                        acked.update(range(first, first + n))

        senders = [threading.Thread(target=sender, args=(s,)) for s in range(3)]
        for t in senders:
            t.start()
        rng = random.Random(time.time())
        try:
            for _ in range(12):
                time.sleep(rng.uniform(0.02, 0.5))
                g.kill()
                g.start()
        finally:
            stop.set()
            for t in senders:
                t.join()
        wait_for("the sink to have what was logged", lambda: g.ledger("sink")["waiting"] == 0, 30)
        got = set(times(sink))
        self.assertGreater(len(acked), 100)
        self.assertEqual(acked - got, set(), "acknowledged, but never delivered")
        self.assertEqual(g.ledger("sink")["lost"], 0)
        self.assertEqual(g.stop(), 0)

    def test_sigterm_drains_and_the_next_start_sends_nothing_twice(self):
        sink = Fake(self)
        g = Gateway(self, influx_backend(sink.port)).start()
        for n in range(1, 200):
            self.assertEqual(g.influx(f"m v={n}i {n}").status, 204)
        self.assertEqual(g.stop(), 0)
        self.assertEqual(sorted(times(sink)), list(range(1, 200)))
        g.start()
        self.assertEqual(g.influx("m v=1i 1000").status, 204)
        g.wait_delivered("sink", 200)
        self.assertEqual(sorted(times(sink)), list(range(1, 200)) + [1000])


class BackendTrouble(unittest.TestCase):
    def test_retry_after_is_honoured(self):
        calls = []

        def answer(path, body):
            calls.append(time.monotonic())
            return (429, {"Retry-After": "1"}, b"slow down") if len(calls) == 1 else (204, {}, b"")

        sink = Fake(self, answer)
        g = Gateway(self, influx_backend(sink.port)).start()
        self.assertEqual(g.influx("m v=1 5").status, 204)
        g.wait_delivered("sink", 1)
        self.assertGreaterEqual(calls[1] - calls[0], 0.95)
        self.assertIn("slow down", g.backend("sink")["last_error"])
        self.assertIn("sink: a write failed and will be retried", g.log_text())
        self.assertIn("sink: writes succeed again, after 1 that failed", g.log_text())

    def test_resets_and_silence_are_retried(self):
        n = [0]

        def answer(path, body):
            n[0] += 1
            return None if n[0] <= 3 else (204, {}, b"")

        sink = Fake(self, answer)
        g = Gateway(self, influx_backend(sink.port)).start()
        for i in range(1, 21):
            self.assertEqual(g.influx(f"m v=1 {i}").status, 204)
        g.wait_delivered("sink", 20)
        self.assertEqual(sorted(set(times(sink))), list(range(1, 21)))

    def test_only_the_refused_points_become_dead_letters(self):
        def answer(path, body):
            bad = [line for line in body.decode().splitlines() if "poison" in line]
            return (400, {}, b'{"error":"partial write: poison is not welcome dropped=1"}') if bad else (204, {}, b"")

        sink, other = Fake(self, answer), Fake(self)
        g = Gateway(self, influx_backend(sink.port) + "," + influx_backend(other.port, "other")).start()
        lines = [f"{'poison' if i in (17, 18, 333) else 'm'},k=v v={i}i {i}" for i in range(1, 501)]
        self.assertEqual(g.influx("\n".join(lines)).status, 204)
        ledger = g.wait_delivered("sink", 497)
        self.assertEqual((ledger["dead_lettered"], ledger["waiting"]), (3, 0))
        self.assertEqual(sorted(set(times(sink))), [i for i in range(1, 501) if i not in (17, 18, 333)])
        letters = g.dead_letters("sink")
        self.assertEqual(sorted(x["time_ns"] for x in letters), [17, 18, 333])
        self.assertTrue(all("poison is not welcome" in x["reason"] for x in letters), letters[0])
        self.assertEqual(letters[0]["series"]["tags"], {"k": "v"})
        self.assertEqual(g.log_text().count("sink: points refused permanently, kept as dead letters: 1"), 1)  # once a minute
        g.wait_delivered("other", 500)

    def test_a_full_log_says_come_back_and_nothing_is_lost(self):
        up = threading.Event()
        sink = Fake(self, lambda path, body: (204, {}, b"") if up.is_set() else (503, {}, b"down"))
        g = Gateway(self, influx_backend(sink.port), log='segment_bytes = "64KiB", max_bytes = "1MiB"').start()
        accepted, refused, n = [], None, 0
        rng = random.Random(3)
        for _ in range(3000):
            chunk = list(range(n + 1, n + 501))
            n += 500
            r = g.influx("\n".join(f"m,k={i % 50} v={rng.random()!r} {i}" for i in chunk))
            if r.status == 204:
                accepted.extend(chunk)
            else:
                refused = r
                break
        self.assertIsNotNone(refused, "the log never filled")
        self.assertEqual(refused.status, 503)
        self.assertIn("retry-after", refused.headers)
        self.assertIn("log.max_bytes", refused.text)
        self.assertEqual(request("GET", g.admin, "/readyz").status, 503)
        up.set()
        g.wait_delivered("sink", len(accepted))
        self.assertEqual(sorted(set(times(sink))), accepted)
        wait_for("room again", lambda: g.influx("m v=1 1").status == 204)
        self.assertEqual(request("GET", g.admin, "/readyz").status, 200)

    def test_flipped_bits_in_the_log_are_set_aside_counted_and_the_rest_delivered(self):
        up = threading.Event()
        sink = Fake(self, lambda path, body: (204, {}, b"") if up.is_set() else (503, {}, b"down"))
        g = Gateway(self, influx_backend(sink.port)).start()
        value = lambda i: repr(random.Random(i).random())  # incompressible: most bytes are in blocks
        for first in range(1, 4001, 100):
            lines = "\n".join(f"m,k={i % 20} v={value(i)} {i}" for i in range(first, first + 100))
            self.assertEqual(g.influx(lines).status, 204)
        g.kill()
        segments = sorted(f for f in os.listdir(os.path.join(g.dir, "log")) if f.endswith(".seg"))
        path = os.path.join(g.dir, "log", segments[0])
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 0x10]))
        up.set()
        g.start()
        ledger = wait_for("the rest", lambda: g.ledger("sink")["waiting"] == 0 and g.ledger("sink"))
        got = times(sink)
        self.assertEqual(len(set(got)), ledger["delivered"])
        self.assertEqual(ledger["delivered"] + ledger["lost"], 4000)
        # the damaged block, and of each of its series what is chained to it: up to 31 further points
        self.assertTrue(1 <= ledger["lost"] <= 100 + 20 * 31, ledger)
        for line, t in zip(sink.lines(), got):
            self.assertEqual(float(line.split(" ")[1].removeprefix("v=")), float(value(t)), "a wrong value")
        self.assertGreater(g.status()["log"]["damaged_records"], 0)


class RemovedFolders(unittest.TestCase):
    def test_nothing_is_acknowledged_into_a_log_that_was_removed(self):
        sink = Fake(self)
        g = Gateway(self, influx_backend(sink.port)).start()
        self.assertEqual(g.influx("a v=1").status, 204)
        os.rename(os.path.join(g.dir, "log"), os.path.join(g.dir, "gone"))  # files come and go in it
        shutil.rmtree(os.path.join(g.dir, "gone"), ignore_errors=True)
        for _ in range(3):
            r = g.influx("a v=2")
            self.assertEqual(r.status, 503, r.text)
        self.assertIn("was removed while the gateway runs", g.log_text())
        g.stop()
        g.start()
        self.assertEqual(g.influx("a v=3").status, 204)
        wait_for("delivery", lambda: any("v=3" in line for line in sink.lines()))


class ChangedSegments(unittest.TestCase):
    """What an operator's hand does to the files of a gateway that runs, and of one that starts."""

    def setUp(self):
        self.up = threading.Event()
        self.sink = Fake(self, lambda path, body: (204, {}, b"") if self.up.is_set() else (503, {}, b"down"))
        self.g = Gateway(self, influx_backend(self.sink.port)).start()

    def segment(self):
        folder = os.path.join(self.g.dir, "log")
        return os.path.join(folder, sorted(f for f in os.listdir(folder) if f.endswith(".seg"))[-1])

    def write(self, first, last):
        self.assertEqual(self.g.influx("\n".join(f"m v={i}i {i}" for i in range(first, last + 1))).status, 204)

    def test_points_of_a_segment_that_was_replaced_are_delivered(self):
        g = self.g
        self.write(1, 100)
        path = self.segment()
        shutil.copy(path, path + ".copy")
        self.write(101, 200)
        os.rename(path + ".copy", path)
        self.write(201, 300)
        self.assertEqual(g.status()["log"]["replaced_segments"], 1)
        self.assertIn("tidegate_log_replaced_segments_total 1", request("GET", g.admin, "/metrics").text)
        g.kill()
        self.up.set()
        g.start()
        g.wait_delivered("sink", 300)
        self.assertEqual(sorted(times(self.sink)), list(range(1, 301)))
        self.assertEqual(g.ledger("sink")["lost"], 0)

    def test_segments_removed_after_a_kill_are_said_and_counted(self):
        """kill -9 right after the newest answer, and the newest segment is gone: nobody closed or noted anything."""
        g = Gateway(self, influx_backend(1)).start()  # nobody listens there
        for n in range(1, 51):
            self.assertEqual(g.influx(f"m v={n}i {n}").status, 204)
        g.kill()
        for name in os.listdir(g.dir + "/log"):
            if name.endswith(".seg"):
                os.unlink(f"{g.dir}/log/{name}")
        g.start()
        self.assertIn("50 points at the end of the log are missing, 50 of them not taken", g.log_text())
        wait_for("the ledger", lambda: g.ledger("sink")["lost"] == 50)
        self.assertIn("sink: 50 points are lost, between the positions", g.log_text())
        self.assertIn("50 points are lost", g.backend("sink")["last_error"])
        self.assertEqual(g.metrics()['tidegate_backend_points_lost_total{backend="sink"}'], 50)

    def test_no_start_without_a_segment_that_cannot_be_read(self):
        g = self.g
        self.write(1, 100)
        path = self.segment()
        g.kill()
        os.rename(path, path + ".kept")
        os.mkdir(path)  # a mount that is not there, say
        with self.assertRaisesRegex(AssertionError, "ended with 1(.|\\n)*may hold acknowledged points"):
            g.start()
        os.rmdir(path)
        os.rename(path + ".kept", path)
        self.up.set()
        g.start()
        g.wait_delivered("sink", 100)


class BadBodies(unittest.TestCase):
    def setUp(self):
        self.sink = Fake(self)
        self.g = Gateway(self, influx_backend(self.sink.port)).start()

    def test_otlp(self):
        g = self.g
        r = g.otlp(b"\x0a\xff\xff\xff\xff\x7fgarbage")
        self.assertEqual(r.status, 400)
        self.assertIn("at byte 0", r.text)
        r = g.otlp(field(1, field(2, field(2, b"\x0a\x7fx"))))
        self.assertEqual(r.status, 400)
        self.assertIn("resource_metrics[0].scope_metrics[0].metrics[0]", r.text)
        self.assertEqual(r.headers["content-type"], "application/x-protobuf")
        r = g.otlp(b"{}", **{"Content-Type": "application/json"})
        self.assertEqual((r.status, r.headers["content-type"]), (415, "application/json"))
        self.assertIn('"application/json" is not supported', r.json()["message"])
        self.assertEqual(g.otlp(b"notgzip", **{"Content-Encoding": "gzip"}).status, 400)
        ok, bad = number_point(SECOND, 1.5, a="1"), number_point(0, 2.5, a="1")
        r = g.otlp(otlp_request([gauge("g", [ok, bad])]))
        self.assertEqual(r.status, 200)
        self.assertIn("time", r.text, "partial success names the reason")
        g.wait_delivered("sink", 1)

    def test_remote_write(self):
        g = self.g
        self.assertEqual(g.post("/api/v1/write", b"\xff" * 20, RW_HEADERS).status, 400)
        r = g.post("/api/v1/write", snappy_literal(b"\x0a\x05\x0a\x09"), RW_HEADERS)
        self.assertEqual(r.status, 400)
        r = g.post("/api/v1/write", write_request([({"__name__": "ok"}, [(5, 1.0)]), ({"no_name": "x"}, [(5, 1.0)])]), RW_HEADERS)
        self.assertEqual(r.status, 400)
        self.assertIn("__name__", r.text)
        g.wait_delivered("sink", 1)

    def test_influx(self):
        g = self.g
        r = g.influx("good v=1 1\nbad line here\ngood v=2 2\nworse v= 3\n")
        self.assertEqual(r.status, 400)
        self.assertIn("line 2", r.json()["error"])
        self.assertIn("dropped=2", r.json()["error"])
        r = g.influx("bad", "/api/v2/write")
        self.assertEqual((r.status, r.json()["code"]), (400, "invalid"))
        self.assertEqual(g.influx("m v=1 1", "/write?precision=fortnight").status, 400)
        g.wait_delivered("sink", 2)
        self.assertEqual(sorted(times(self.sink)), [1, 2])

    def test_unknown_paths_and_methods(self):
        self.assertEqual(request("POST", self.g.http, "/nowhere").status, 404)
        r = request("GET", self.g.http, "/v1/metrics")
        self.assertEqual((r.status, r.headers["allow"]), (405, "POST"))

    def test_decompression_bombs_and_big_bodies(self):
        g = Gateway(self, influx_backend(self.sink.port), limits='body = "64KiB", decompressed = "256KiB"').start()
        bomb = gzip.compress(b"m v=1 1\n" * 1000000)
        self.assertLess(len(bomb), 65536)
        r = g.influx(bomb, **{"Content-Encoding": "gzip"})
        self.assertEqual(r.status, 413)
        self.assertIn("limits.decompressed", r.text)
        r = g.influx(b"#" * 70000)
        self.assertEqual(r.status, 413)
        self.assertIn("limits.body", r.text)

    def test_query_shows_no_control_bytes_of_senders(self):
        g = Gateway(self, 'archive = { type = "parquet", dir = "parquet", linger = "10ms" }').start()
        body = 'esc\x1b[2J,k\x07y=a\u009bb v="text\x1b]0;x\x07\nline" \nb,t=1 v=1'
        self.assertEqual(g.influx(body).status, 204)
        g.wait_delivered("archive", 2)
        for words in ([], ["--limit", "1"], ["b_v"]):  # in rows, and in what all rows share
            shown = g.cli("query", *words, "--admin", f"127.0.0.1:{g.admin}").stdout
            self.assertFalse([c for c in shown if c != "\n" and not c.isprintable()], shown)
        shown = g.cli("query", "--admin", f"127.0.0.1:{g.admin}").stdout
        self.assertIn(r'esc\u001b[2J_v{k\u0007y="a\u009bb"}', shown)
        self.assertIn(r"text\u001b]0;x\u0007\nline", shown)

    def test_messages_hold_no_control_bytes_of_senders(self):
        g = Gateway(self, 'archive = { type = "parquet", dir = "parquet" }',
                    rules={"routing": "return function(s) error(s.name) end"}).start()
        self.assertEqual(g.influx("a\x1b[2J\x07b\u009b v=1").status, 204)
        self.assertIn("a?[2J?b??_v", g.log_text())
        shown = g.cli("status", "--once", "--admin", f"127.0.0.1:{g.admin}").stdout
        self.assertFalse([c for c in shown if c != "\n" and not c.isprintable()], shown)
        self.assertIn(r"a\u001b[2J\u0007b\u009b_v", shown)

    def test_series_limit_refuses_new_series_only(self):
        g = Gateway(self, influx_backend(self.sink.port), limits="series = 3").start()
        r = g.influx("\n".join(f"m,k={i} v=1 {i + 1}" for i in range(5)))
        self.assertEqual(r.status, 400)
        self.assertIn("limits.series", r.text)
        self.assertEqual(g.influx("m,k=1 v=2 9").status, 204)
        g.wait_delivered("sink", 4)
        self.assertGreaterEqual(g.metrics()["tidegate_series_refused_total"], 2)
        g.influx("m,k=7 v=1 10")
        self.assertEqual(g.log_text().count("limits.series"), 1)  # once a minute
        shown = g.cli("status", "--once", "--admin", f"127.0.0.1:{g.admin}").stdout
        self.assertRegex(shown, r"series +3 live of 3, FULL: [3-9] points of new ones refused")
        self.assertIn("full: ", request("GET", g.admin, "/").text)
