"""Parquet files with all kinds of points and edge values, read back by two independent readers, bit by bit."""
import os
import subprocess
import tempfile
import unittest

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
