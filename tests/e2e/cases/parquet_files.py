"""Parquet files with all kinds of points and edge values, read back by two independent readers, bit by bit."""
import glob
import os
import random
import subprocess
import tempfile
import time
import unittest

from harness import *
from real_servers import npm_folder


class ParquetFiles(unittest.TestCase):
    def test_duckdb_and_hyparquet_read_what_was_written(self):
        oracle = npm_folder("parquet_oracle")
        writer = os.path.join(os.path.dirname(os.environ["TIDEGATE_BINARY"]), "tests", "parquet_oracle_write")
        if not os.access(writer, os.X_OK):
            raise unittest.SkipTest(f"needs {writer}: build the tests of that preset")
        with tempfile.TemporaryDirectory(prefix="tidegate-parquet-") as folder:
            r = subprocess.run([writer, folder], capture_output=True, text=True, timeout=120)
            self.assertEqual(r.returncode, 0, r.stderr)
            r = subprocess.run(["node", "compare.mjs", folder], cwd=oracle, capture_output=True, text=True, timeout=300)
            self.assertEqual(r.returncode, 0, r.stdout[-4000:] + r.stderr[-4000:])
            self.assertGreaterEqual(r.stdout.count("equal "), 13, r.stdout)


class RewindOverADamagedLog(unittest.TestCase):
    """The archive had all points; the log lost some of them; a rewind delivers what is left of it once more."""

    N = 3000

    def setUp(self):
        rng = random.Random(5)
        self.g = Gateway(self, 'archive = { type = "parquet", dir = "parquet", linger = "20ms", batch_points = 40 }',
                         log='segment_bytes = "64KiB", max_bytes = "64MiB"').start()
        self.base = int(time.time()) * SECOND
        for first in range(1, self.N + 1, 20):
            text = "\n".join(f'm v="{rng.getrandbits(1200):x}" {self.base + n}' for n in range(first, first + 20))
            self.assertEqual(self.g.influx(text).status, 204)
        wait_for("delivery", lambda: self.g.ledger("archive")["waiting"] == 0)
        self.assertEqual(self.rows(), list(range(1, self.N + 1)))
        self.assertEqual(self.g.stop(), 0)
        with open(self.g.config) as f:
            text = f.read().replace(", batch_points = 40", "")  # what comes again comes as one large file
        with open(self.g.config, "w") as f:
            f.write(text)
        self.segments = sorted(glob.glob(self.g.dir + "/log/*.seg"))
        self.assertGreater(len(self.segments), 4)

    def rows(self):
        r = request("GET", self.g.admin, f"/api/query?name=m_v&limit=100000&start={self.base}&end={self.base + SECOND}")
        self.assertEqual(r.status, 200, r.text)
        return sorted(row["time_ns"] - self.base for row in r.json()["rows"])

    def files(self, suffix):
        return glob.glob(f"{self.g.dir}/parquet/date=*/*{suffix}")

    def rewind(self, max_kept):
        g = self.g.start()
        r = g.cli("rewind", "archive", "--to", "start", "--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for("delivery", lambda: g.ledger("archive")["waiting"] == 0)
        rows = self.rows()
        self.assertEqual(len(rows), len(set(rows)), "a point is there twice")
        kept = self.files(".kept")
        self.assertEqual(self.files(".again"), [])
        self.assertLessEqual(len(kept), max_kept)
        missing = self.N - len(rows)
        self.assertLessEqual(missing, 40 * len(kept))
        for i, path in enumerate(kept):  # what queries miss is in them
            os.rename(path, os.path.join(os.path.dirname(path), f"kept{i}.parquet"))
        self.assertEqual(set(self.rows()), set(range(1, self.N + 1)))

    def test_segments_removed(self):
        os.unlink(self.segments[1])
        os.unlink(self.segments[2])
        self.rewind(2)  # the files that lie in a removed segment in part
        self.assertGreater(self.g.ledger("archive")["lost"], 0)

    def test_the_start_removed(self):
        os.unlink(self.segments[0])
        self.rewind(1)

    def test_a_record_damaged(self):
        with open(self.segments[2], "r+b") as f:
            f.seek(30000)
            f.write(b"damage")
        self.rewind(3)
        self.assertGreater(self.g.ledger("archive")["lost"], 0)
