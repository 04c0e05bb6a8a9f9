"""Stops: in time, whatever backends do; nothing that was acknowledged is lost by one."""
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import *

DRAIN_S, SLACK_S = 2.0, 2.0


class Silent:
    """Takes connections and whatever comes in on them, and never says a word."""

    def __init__(self, case):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.open = []
        self.n_bytes = 0
        threading.Thread(target=self.accept, daemon=True).start()
        case.addCleanup(self.close)

    def accept(self):
        while True:
            try:
                c = self.listener.accept()[0]
            except OSError:
                return
            self.open.append(c)
            threading.Thread(target=self.read, args=(c,), daemon=True).start()

    def read(self, c):
        try:
            while data := c.recv(65536):
                self.n_bytes += len(data)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        for c in self.open:
            c.close()


def hanging_disk(g):
    """A file and an environment: while the file is there, nothing gets onto the disk."""
    hang, shim = os.path.join(g.dir, "hang"), os.path.join(g.dir, "shim.so")
    with open(os.path.join(g.dir, "shim.c"), "w") as f:
        f.write("""#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static void hang(void) { while (access(getenv("HANG_WHEN"), F_OK) == 0) usleep(10000); }
int fsync(int fd) { hang(); return (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { hang(); return (int)syscall(SYS_fdatasync, fd); }
""")
    subprocess.run([need("cc"), "-shared", "-fPIC", "-o", shim, os.path.join(g.dir, "shim.c")], check=True)
    return hang, {"LD_PRELOAD": shim, "HANG_WHEN": hang, "ASAN_OPTIONS": "verify_asan_link_order=0"}


def stop_in_time(case, g):
    began = time.monotonic()
    code = g.stop()
    took = time.monotonic() - began
    case.assertEqual(code, 0, g.log_text())
    case.assertLessEqual(took, DRAIN_S + SLACK_S, g.log_text())
    return took


class Stops(unittest.TestCase):
    def test_backends_that_never_answer(self):
        """Their own timeout (30 s) does not matter; what was in flight is delivered after the next start."""
        silent = [Silent(self), Silent(self)]
        g = Gateway(self, f"""
            flux = {{ type = "influxdb", url = "http://127.0.0.1:{silent[0].port}", database = "x" }},
            prom = {{ type = "prometheus", url = "http://127.0.0.1:{silent[1].port}/api/v1/write" }},
        """, limits=f'drain_timeout = "{DRAIN_S:.0f}s",').start()
        self.assertEqual(g.influx("m v=1i 1000000000\nm v=2i 2000000000").status, 204)
        wait_for("writes to be in flight", lambda: all(g.backend(n)["state"] == "writing" for n in ("flux", "prom")))
        stop_in_time(self, g)
        self.assertIn("its points wait in the log", g.log_text())
        sink = Fake(self)
        with open(g.config) as f:
            text = f.read()
        for s in silent:
            text = text.replace(f":{s.port}", f":{sink.port}")
        with open(g.config, "w") as f:
            f.write(text)
        g.start()
        g.wait_delivered("flux", 2)
        g.wait_delivered("prom", 2)
        stop_in_time(self, g)

    def test_senders_and_readers_that_stand_still(self):
        """Requests sent by half, answers that nobody reads, connections without a word."""
        sink = Fake(self)
        g = Gateway(self, f'flux = {{ type = "influxdb", url = "http://127.0.0.1:{sink.port}", database = "x" }}',
                    limits=f'drain_timeout = "{DRAIN_S:.0f}s",').start()
        held = []
        for port, text in [(g.http, b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nm v=1"),
                           (g.http, b"POST /write HTTP/1.1\r\nHost"),
                           (g.http, b""), (g.admin, b""), (g.admin, b"GET /api/st"),
                           (g.admin, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)]:
            s = socket.create_connection(("127.0.0.1", port))
            self.addCleanup(s.close)
            s.setblocking(False)
            if text:
                s.send(text)
            held.append(s)
        self.assertEqual(g.influx("m v=1i 1000000000").status, 204)
        stop_in_time(self, g)

    def test_second_signal(self):
        silent = Silent(self)
        g = Gateway(self, f'flux = {{ type = "influxdb", url = "http://127.0.0.1:{silent.port}", database = "x" }}',
                    limits='drain_timeout = "60s",').start()
        self.assertEqual(g.influx("m v=1i 1000000000").status, 204)
        wait_for("a write to be in flight", lambda: g.backend("flux")["state"] == "writing")
        g.proc.send_signal(signal.SIGTERM)
        wait_for("the drain", lambda: request("GET", g.admin, "/readyz").status == 503)
        g.proc.send_signal(signal.SIGTERM)
        self.assertEqual(g.proc.wait(5), 1)
        g.proc = None

    def test_a_disk_that_hangs(self):
        """Nothing is acknowledged that is not on it, and the stop ends without it, saying so."""
        sink = Fake(self)
        g = Gateway(self, f'flux = {{ type = "influxdb", url = "http://127.0.0.1:{sink.port}", database = "x" }}',
                    limits=f'drain_timeout = "{DRAIN_S:.0f}s",')
        hang, env = hanging_disk(g)
        g.start(env=env)
        self.assertEqual(g.influx("m v=1i 1000000000").status, 204)
        g.wait_delivered("flux", 1)
        with open(hang, "w"):
            pass
        answers = []

        def send():
            try:
                answers.append(g.influx("m v=2i 2000000000").status)
            except (OSError, http.client.HTTPException):
                answers.append(None)

        t = threading.Thread(target=send)
        t.start()
        wait_for("the request to wait", lambda: g.metrics()['tidegate_receive_requests_total{protocol="influx"}'] >= 2)
        began = time.monotonic()
        self.assertEqual(g.stop(), 1)
        self.assertLessEqual(time.monotonic() - began, DRAIN_S + SLACK_S)
        self.assertIn("still waiting for", g.log_text())
        t.join()
        self.assertNotEqual(answers, [204])
        os.unlink(hang)
        g.start()
        self.assertEqual(g.influx("m v=3i 3000000000").status, 204)
        wait_for("the sink to have both", lambda: {"1000000000", "3000000000"} <=
                 {line.rsplit(" ", 1)[1] for line in sink.lines()})
        self.assertEqual(g.stop(), 0)

    def test_a_start_that_hangs(self):
        sink = Fake(self)
        g = Gateway(self, f'flux = {{ type = "influxdb", url = "http://127.0.0.1:{sink.port}", database = "x" }}')
        hang, env = hanging_disk(g)
        with open(hang, "w"):
            pass
        with open(g.log_path, "ab") as log:
            p = subprocess.Popen([os.environ["TIDEGATE_BINARY"], "run", "--config", g.config],
                                 stdout=log, stderr=log, env={**os.environ, **env})
        try:
            wait_for("the log's folder", lambda: os.path.isdir(os.path.join(g.dir, "log")))
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(5), 0, g.log_text())
        finally:
            p.kill()
        self.assertIn("while starting", g.log_text())
        os.unlink(hang)
        g.start()
        self.assertEqual(g.stop(), 0)

    def test_while_starting(self):
        """A signal at any instant of the start ends it: by the signal itself, or with 0."""
        sink = Fake(self)
        g = Gateway(self, f'flux = {{ type = "influxdb", url = "http://127.0.0.1:{sink.port}", database = "x" }}')
        g.start()
        self.assertEqual(g.influx("m v=1i 1000000000").status, 204)
        g.stop()
        for ms in range(0, 60, 3):
            with open(g.log_path, "ab") as log:
                p = subprocess.Popen([os.environ["TIDEGATE_BINARY"], "run", "--config", g.config],
                                     stdout=log, stderr=log)
            time.sleep(ms / 1000)
            p.send_signal(signal.SIGTERM)
            self.assertIn(p.wait(7), (0, -signal.SIGTERM), g.log_text())
        g.start()
        g.wait_delivered("flux", 1)


class Queries(unittest.TestCase):
    def test_endless_queries_hold_up_neither_delivery_nor_stop(self):
        """Eight that match nothing read file after file; the backend goes on, and a stop ends them."""
        g = Gateway(self, 'archive = { type = "parquet", dir = "pq", linger = "0s" }',
                    limits=f'drain_timeout = "{DRAIN_S:.0f}s",').start()
        self.assertEqual(g.influx("\n".join(f"m,host=a v={i} {i}000000000" for i in range(5000))).status, 204)
        g.wait_delivered("archive", 5000)
        g.stop()
        day = os.path.join(g.dir, "pq", "date=1970-01-01")
        one = os.path.join(day, next(n for n in os.listdir(day) if n.endswith(".parquet")))
        for i in range(30000):  # names that no delivery gives: they are read, and never removed
            os.link(one, os.path.join(day, f"x{i:06}.parquet"))
        g.start()
        query = "/api/query?series=m_v%7Bhost%3D%22nowhere%22%7D&backend=archive"
        ends = []

        def ask():
            ends.append(request("GET", g.admin, query, timeout=60))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for t in threads:
            t.start()
        # one whose client goes, among them
        s = socket.create_connection(("127.0.0.1", g.admin))
        s.sendall(f"GET {query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        s.close()
        self.assertEqual(g.influx("m,host=a v=1 6000000000000").status, 204)
        began = time.monotonic()
        g.wait_delivered("archive", 5001)
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(ends, [])
        stop_in_time(self, g)
        for t in threads:
            t.join(20)
        self.assertEqual([r.status for r in ends], [503] * 8)
        self.assertIn("shutting down", ends[0].text)
