#!/usr/bin/env python3
"""Tests come out the same every time: one source of random numbers, and no sleeps that hope: tests/habits.py [ROOT]

- Random numbers come from tests/support/rng.h.
- A sleep stands in a loop that looks at a condition and has a deadline nearby (WAIT_UNTIL of tests/support/wait.h has
  one). What is no waiting but hangs on purpose until the test lets go, or paces a thread, is in PACES with its reason.
"""
import os
import re
import sys

PACES = {  # (file, function): why
    ("tests/unit/log/test_log_threads.c", "submit_all"): "the queue is full: the log's own thread makes room, or the test ends",
    ("tests/unit/log/test_log_threads.c", "follow"): "reads on after vandalism, until the writers are done",
    ("tests/unit/log/test_log_threads.c", "vandalise"): "how often a vandal looks, until the writers are done",
    ("tests/unit/admin/test_admin.c", "query_range"): "a query without end, until it is told to",
    ("tests/unit/pipe/test_query.c", "look"): "a look that lasts, until the test lets go",
    ("tests/unit/pipe/test_dead_letters.c", "hanging_open"): "a mount that hangs, until the test lets go",
    ("tests/unit/pipe/gateway_fixture.h", "answer"): "an answer that does not come, until the test lets go",
    ("tests/unit/pipe/gateway_fixture.h", "fake_write"): "a write that hangs, until the test lets go",
    ("tests/unit/pipe/gateway_fixture.h", "fake_query_range"): "a query without end, until it is told to",
    ("tests/unit/rules/test_load.c", "hanging_open"): "a mount that hangs, until the test lets go",
    ("tests/unit/pipe/test_lag.c", "wait_until"): "the clock is the condition: how old a point is",
    ("tests/support/wait.h", "?"): "the macro itself",
}


def main():
    os.chdir(sys.argv[1] if sys.argv[1:] else os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    bad, used, n = [], set(), 0
    for folder, _, files in os.walk("tests"):
        for name in sorted(f for f in files if f.endswith((".c", ".h"))):
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as f:
                lines = f.read().split("\n")
            n += 1
            function = "?"
            for i, line in enumerate(lines):
                m = re.match(r"[a-z].*?\b(\w+)\(", line)
                if m and not line.rstrip().endswith(";"):
                    function = m.group(1)
                if path != "tests/support/rng.h" and re.search(r"<< 13\b|(?<![.\w])(s?random|s?rand|[dlm]rand48)\(", line):
                    bad.append(f"{path}:{i + 1}: random numbers of its own; tests/support/rng.h has them")
                if re.search(r"\b(u|nano)?sleep\(", line) and not re.match(r"\s*(/?\*|#)", line):
                    if (path, function) in PACES:
                        used.add((path, function))
                    elif re.search(r"sleep\(([5-9]\d{4}|\d{6,}|([5-9]\d|\d{3,}) \* 1000)\)", line):
                        bad.append(f"{path}:{i + 1}: sleeps for a time and hopes; wait for what is to come (WAIT_UNTIL)")
                    elif not re.search(r"deadline|began_ms|i < 5000", "\n".join(lines[max(0, i - 8):i + 6])):
                        bad.append(f"{path}:{i + 1}: waits without a deadline; use WAIT_UNTIL (tests/support/wait.h)")
    bad += [f"{path}: {function} does not sleep any more: take it out of PACES" for path, function in sorted(set(PACES) - used)]
    if bad:
        sys.exit("\n".join(bad))
    print(f"{n} files of tests have no bad habits")


main()
