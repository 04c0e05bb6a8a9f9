"""Stops: in time, whatever backends do; nothing that was acknowledged is lost by one."""
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
