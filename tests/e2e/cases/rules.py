"""Rules on a running gateway: edit, reload, see the effect, lose nothing."""
import json
import os
import signal
import subprocess
import threading
import time
import unittest

from harness import *
from bad_days import influx_backend, times


class Reload(unittest.TestCase):
    def setUp(self):
        self.a, self.b = Fake(self), Fake(self)
        self.g = Gateway(self, influx_backend(self.a.port, "a") + "," + influx_backend(self.b.port, "b"),
                         {"routing": 'return function(series) return to("a") end'}).start()

    def reload(self):
        return request("POST", self.g.admin, "/-/reload")

    def test_an_edited_rule_takes_effect_for_known_series(self):
        g = self.g
        self.assertEqual(g.influx("m,k=v v=1 1").status, 204)
        wait_for("a", lambda: times(self.a) == [1])
        g.write_rule("routing", 'return function(series) return to("b") end')
        g.write_rule("tags", 'return function(series) series.tags.env = "prod" end')
        r = self.reload()
        self.assertEqual(r.status, 200, r.text)
        self.assertEqual(g.influx("m,k=v v=2 2").status, 204)
        wait_for("b", lambda: times(self.b) == [2])
        self.assertIn("env=prod", self.b.lines()[0])
        self.assertEqual(times(self.a), [1])
        self.assertEqual(g.status()["generation"], 2)

    def test_sighup_reloads(self):
        self.g.write_rule("routing", 'return function(series) return to("b") end')
        self.g.proc.send_signal(signal.SIGHUP)
        wait_for("generation 2", lambda: self.g.status()["generation"] == 2)

    def test_a_broken_script_leaves_the_old_rules(self):
        g = self.g
        g.write_rule("tags", 'return function(series) series.tags.env = "prod" end')
        g.write_rule("routing", "-- a comment\nreturn function(series) return to( end")
        r = self.reload()
        self.assertEqual(r.status, 400)
        self.assertIn("routing.lua:2:", r.text)
        self.assertEqual(g.influx("m,k=v v=1 1").status, 204)
        wait_for("a", lambda: times(self.a) == [1])
        self.assertNotIn("env", self.a.lines()[0], "none of the four scripts may swap when one is broken")

    def test_a_fifo_in_a_scripts_place_is_refused(self):
        g = self.g
        path = os.path.join(g.dir, "routing.lua")
        os.unlink(path)
        os.mkfifo(path)
        r = self.reload()
        self.assertEqual(r.status, 400)
        self.assertIn("routing.lua: cannot be read: ", r.text)
        self.assertEqual(request("GET", g.admin, "/healthz").status, 200)

    def test_an_endless_rule_holds_up_no_sender(self):
        g = self.g
        g.write_rule("routing", "return function(series) while true do end end")
        self.assertEqual(self.reload().status, 200)
        start = time.monotonic()
        self.assertEqual(g.influx("".join(f"m,k={i} v=1 {i + 1}\n" for i in range(20000))).status, 204)
        self.assertLess(time.monotonic() - start, 10, "48 s without a breaker")
        self.assertIn("the rules are not run", request("GET", g.admin, "/readyz").text)
        self.assertTrue(g.status()["rules"]["breaker_open"])
        g.write_rule("routing", 'return function(series) return to("a") end')
        self.assertEqual(self.reload().status, 200)
        self.assertFalse(g.status()["rules"]["breaker_open"])

    def test_a_failing_rule_takes_the_error_route(self):
        g = self.g
        g.write_rule("routing", 'return function(series)\n  return to(series.tags.nope.x)\nend')
        self.assertEqual(self.reload().status, 200)
        self.assertEqual(g.influx("m,k=v v=1 1").status, 204)
        wait_for("both", lambda: times(self.a) == [1] and times(self.b) == [1])
        self.assertIn("routing.lua:2", g.status()["rules"]["last_error"])

    def test_a_series_whose_rule_fails_keeps_its_last_good_decision(self):
        g = self.g
        g.write_rule("tags", 'return function(series) series.tags.user = nil end')
        self.assertEqual(self.reload().status, 200)
        self.assertEqual(g.influx("m,k=v,user=jo v=1 1").status, 204)
        wait_for("a", lambda: times(self.a) == [1])
        g.write_rule("tags", 'return function(series) series.tags.user = series.tags.nope .. "" end')
        self.assertEqual(request("POST", g.admin, "/-/reload?force=1").status, 200)
        self.assertEqual(g.influx("m,k=v,user=jo v=1 2").status, 204)
        wait_for("a", lambda: times(self.a) == [1, 2])
        self.assertNotIn("jo", "".join(self.a.lines()))
        self.assertEqual(times(self.b), [], "the series went everywhere")
        status = g.status()["rules"]
        self.assertEqual(status["failed_series"], 1)
        self.assertEqual(g.metrics()["tidegate_series_failed"], 1)

    def test_rules_that_newly_fail_for_live_series_are_refused_unless_forced(self):
        g = self.g
        self.assertEqual(g.influx("secret,k=v v=1 1\nm,k=v v=1 1").status, 204)
        wait_for("a", lambda: len(self.a.lines()) == 2)
        g.write_rule("routing", 'return function(series)\n  if series.name:find("^secret") then\n'
                                '    return to("A" .. series.tags.k)\n  end\n  return to("a")\nend')
        says = 'routing.lua:3: to(): no backend is called "Av"'
        g.proc.send_signal(signal.SIGHUP)
        wait_for("the refusal", lambda: "generation 1 stays in force (POST /-/reload?force=1" in g.log_text())
        self.assertIn(says, g.log_text())
        r = self.reload()
        self.assertEqual(r.status, 400, r.text)
        answer = r.json()
        self.assertTrue(answer["error"].startswith(says), r.text)
        self.assertIn("/-/reload?force=1", answer["error"])
        self.assertIn('1 live series that the rules in force decide: "secret_v{k=\\"v\\"}"', answer["errors"][0])
        self.assertEqual((answer["generation"], answer["live_series"], answer["decided"]), (1, 2, 2))
        self.assertEqual(g.influx("secret,k=v v=1 2").status, 204)
        wait_for("a", lambda: len(self.a.lines()) == 3)
        self.assertEqual(request("POST", g.admin, "/-/reload?strict=1").status, 400)
        r = request("POST", g.admin, "/-/reload?force=1")
        self.assertEqual((r.status, r.json()["generation"], len(r.json()["errors"])), (200, 2, 1), r.text)
        self.assertEqual(g.influx("secret,k=v v=1 3").status, 204)
        wait_for("a", lambda: len(self.a.lines()) == 4)
        self.assertEqual(self.b.lines(), [], "the series went everywhere")

    def test_warnings_refuse_a_strict_reload(self):
        g = self.g
        g.write_rule("routing", 'return function(series)\n  if series.tags.rare then return dorp("x") end\nend')
        r = request("POST", g.admin, "/-/reload?strict=1")
        self.assertEqual(r.status, 400, r.text)
        self.assertIn('there is no "dorp"; did you mean "drop"?', r.json()["error"])
        r = self.reload()
        self.assertEqual((r.status, len(r.json()["warnings"])), (200, 1), r.text)

    def test_endless_rules_do_not_stall_the_gateway(self):
        g = self.g
        g.write_rule("routing", """return function(series)
  if series.tags.k == "loop" then while true do end end
  if series.tags.k == "catch" then while true do pcall(function() while true do end end) end end
  if series.tags.k == "pattern" then return to(("a"):rep(4000):find(".-.-.-.-b")) end
  if series.tags.k == "bomb" then local s = "x" while true do s = s .. s end end
  return to("a")
end""")
        self.assertEqual(self.reload().status, 200)
        began = time.monotonic()
        for i, k in enumerate(("loop", "catch", "pattern", "bomb", "fine")):
            self.assertEqual(g.influx(f"m,k={k} v=1 {i + 1}").status, 204)
        self.assertLess(time.monotonic() - began, 5)
        wait_for("all five", lambda: sorted(times(self.a)) == [1, 2, 3, 4, 5])

    def test_reloading_under_load_loses_nothing(self):
        g = self.g
        stop, sent = threading.Event(), []

        def sender():
            n = 0
            while not stop.is_set():
                n += 1
                if g.influx(f"m,k={n % 20} v={n}i {n}").status == 204:
                    sent.append(n)

        t = threading.Thread(target=sender)
        t.start()
        try:
            for i in range(20):
                g.write_rule("routing", f'return function(series) return to("{"ab"[i % 2]}") end')
                self.assertEqual(self.reload().status, 200)
        finally:
            stop.set()
            t.join()
        wait_for("the end", lambda: g.ledger("a")["waiting"] == 0 and g.ledger("b")["waiting"] == 0)
        self.assertEqual(sorted(set(times(self.a) + times(self.b))), sent)

    def test_drop_by_rule_is_counted(self):
        g = self.g
        g.write_rule("routing", 'return function(series) if series.tags.k == "x" then return drop("noise") end return to("a") end')
        self.assertEqual(self.reload().status, 200)
        self.assertEqual(g.influx("m,k=x v=1 1\nm,k=y v=1 2").status, 204)
        wait_for("a", lambda: times(self.a) == [2])
        self.assertEqual(g.ledger("a")["dropped"], 1)


class Check(unittest.TestCase):
    def test_check_refuses_what_run_would_refuse(self):
        url = 'url = "http://127.0.0.1:1/api/v1/write"'
        for backends, says in (
                (f'i = {{ type = "influxdb", {url} }}', "backends.i: "),
                (f'i = {{ type = "influxdb", {url}, bucket = "b" }}', "needs org"),
                (f'i = {{ type = "influxdb", {url}, database = "d", token = "t", username = "u" }}', "not both"),
                ('p = { type = "prometheus", url = "ftp://127.0.0.1/api/v1/write" }', "is not like http://")):
            with self.subTest(backends):
                g = Gateway(self, 'archive = { type = "parquet", dir = "parquet" }, ' + backends)
                r = g.cli("check", "--config", g.config)
                self.assertEqual(r.returncode, 1, r.stdout)
                self.assertIn(says, r.stderr)
                self.assertNotIn("parquet", os.listdir(g.dir))
        g = Gateway(self, f'p = {{ type = "prometheus", {url} }}')
        r = g.cli("check", "--config", g.config)
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_a_rule_that_loads_and_then_fails_is_a_warning(self):
        g = Gateway(self, 'archive = { type = "parquet", dir = "parquet" }',
                    {"routing": 'return function(series)\n  return to(series.name .. "e")\nend'})
        r = g.cli("check", "--config", g.config)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn('warning: routing.lua:2: to(): no backend is called "examplee"', r.stderr)
        self.assertNotIn("parquet", os.listdir(g.dir))
        r = g.cli("check", "--config", g.config, "--strict")
        self.assertEqual(r.returncode, 1)
        self.assertIn("1 warning, and --strict takes them for errors", r.stderr)
        r = g.cli("explain", "x", "--config", g.config)
        self.assertEqual((r.returncode, r.stderr), (1, ""))
        self.assertIn('no backend is called "xe"', r.stdout)

    def test_a_wrong_name_in_a_rarely_taken_branch_is_refused(self):
        routing = """return function(series)
  if series.tags.secret then
    return to("archiv")
  end
  return to("archive")
end"""
        g = Gateway(self, 'archive = { type = "parquet", dir = "parquet" }, other = { type = "parquet", dir = "o" }',
                    {"routing": routing})
        says = 'routing.lua:3: to(): no backend is called "archiv"; did you mean "archive"?'
        r = g.cli("check", "--config", g.config)
        self.assertEqual(r.returncode, 1, r.stdout)
        self.assertIn(says, r.stderr)
        r = g.cli("run", "--config", g.config)
        self.assertEqual(r.returncode, 1, r.stdout)
        self.assertIn(says, r.stderr)
        g.write_rule("routing", routing.replace('"archiv"', '"archive"'))
        g.start()
        g.write_rule("routing", routing)
        r = request("POST", g.admin, "/-/reload")
        self.assertEqual((r.status, r.json()["error"][:len(says)]), (400, says))
        self.assertEqual(g.status()["generation"], 1)


class Explain(unittest.TestCase):
    """A series is explained as the one that is live, by the scripts on disk, with what is in force for it."""
    routing = """return function(series)
  if series.measurement == "cpu" and series.field == "user" then return to("a") end
  if series.kind == "counter" and series.origin("service") == "resource" then return to("b") end
  return drop("rest")
end"""

    def setUp(self):
        self.g = Gateway(self, influx_backend(1, "a") + "," + influx_backend(1, "b"),
                         {"routing": self.routing, "tags": "return function(series) series.tags.host = 'x' end"})

    def explain(self, *args, code=0):
        r = self.g.cli("explain", "--config", self.g.config, *args)
        self.assertEqual((r.returncode, r.stderr), (code, ""), r.stdout)
        return r.stdout

    def test_what_is_given_is_enough(self):
        self.assertIn("dropped by rule", self.explain("cpu_user"))
        for args in (("--line", "cpu,host=a user=1"), ("--measurement", "cpu", "--field", "user"),
                     ("{host=a}", "--measurement", "cpu", "--field", "user")):
            self.assertIn("targets    a\n", self.explain(*args))
        self.assertIn("targets    b\n", self.explain("n{service=s}", "--kind", "counter", "--resource", "service"))
        self.assertIn("dropped by rule", self.explain("n{service=s}", "--kind", "counter"))
        self.assertIn("as given: no gateway was asked", self.explain("n"))

    def test_the_live_series_is_decided(self):
        g = self.g.start()
        admin = ("--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(g.influx("cpu,host=a user=1 1\ncpu,host=b,rack=r user=1 1").status, 204)
        text = self.explain("cpu_user{host=a}", *admin)
        self.assertIn("live, last named", text)
        self.assertIn("measurement cpu, field user", text)
        self.assertIn("~ host = x (was a)", text)
        self.assertIn("targets    a\n", text)
        self.assertIn("routing.lua:2", text)
        self.assertIn("in force at http://", text)
        self.assertRegex(text, r"a +2 points of all series wait, the oldest for [0-9.]+ s; ")
        text = self.explain("cpu_user", *admin)
        self.assertIn("1 more live series match", text)
        self.assertIn("not this: cpu_user{", text)
        # other scripts on disk than in force
        g.write_rule("routing", 'return function(series) return to(series.field == "user" and "b" or "a") end')
        text = self.explain("cpu_user{host=a}", *admin)
        self.assertIn("targets    b\n", text)
        self.assertIn("goes to    a\n", text)
        self.assertIn("other rules than the scripts on disk", text)
        answer = json.loads(self.explain("cpu_user{host=a}", "--json", *admin))
        self.assertEqual((answer["targets"], answer["gateway"]["in_force"]["targets"]), (["b"], ["a"]))
        self.assertIn("no such series is live", self.explain("cpu_user{host=c}", *admin))
        # kept
        g.write_rule("routing", "return function(series) return to(series.field) end")
        self.assertEqual(request("POST", g.admin, "/-/reload?force=1").status, 200)
        self.assertEqual(g.influx("cpu,host=a user=1 2").status, 204)
        text = self.explain("cpu_user{host=a}", *admin, code=1)
        self.assertIn("its last good decision is kept", text)

    def test_disk_plan_and_rules_in_force_are_told_apart(self):
        g = self.g.start()
        admin = ("--admin", f"127.0.0.1:{g.admin}")
        # what is dropped waits in no log, so that no delivery decides it again after a reload
        self.assertEqual(g.influx("cpu,host=a user=1 1\ncpu,host=a dropped=1 1").status, 204)
        self.assertNotIn("other rules than", self.explain("cpu_user{host=a}", *admin))
        # tags on disk, not in force: both are shown
        g.write_rule("tags", "return function(series) series.tags.host = 'y'; series.name = 'load' end")
        text = self.explain("cpu_user{host=a}", *admin)
        disk, force = text.split("in force at")
        self.assertIn("becomes load", disk)
        self.assertIn("~ host = y (was a)", disk)
        self.assertIn("other rules than the scripts on disk", force)
        self.assertIn("name       cpu_user\n", force)
        self.assertIn("~ host = x (was a)", force)
        # in force, and the series has had no point since
        g.write_rule("routing", "return function(series) return to('b') end")
        self.assertEqual(request("POST", g.admin, "/-/reload").status, 200)
        force = self.explain("cpu_dropped{host=a}", *admin).split("in force at")[1]
        self.assertIn("(generation 2)", force)
        self.assertIn("goes to    no backend: dropped by rule; so decided generation 1\n", force)
        self.assertIn("decided again with its next point, then goes to b\n", force)
        self.assertNotIn("other rules than", force)
        self.assertEqual(g.influx("cpu,host=a dropped=1 2").status, 204)
        force = self.explain("cpu_dropped{host=a}", *admin).split("in force at")[1]
        self.assertIn("goes to    b\n", force)
        # one that is not there yet
        self.assertIn("goes to    b, once it has a point", self.explain("cpu_user{host=z}", *admin))

    def test_rules_that_are_not_run_are_said_so(self):
        g = self.g.start()
        admin = ("--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(g.influx("dropped v=1 1").status, 204)
        g.write_rule("routing", "return function(series) while series.tags.loops do end end")
        self.assertEqual(request("POST", g.admin, "/-/reload").status, 200)
        self.assertEqual(g.influx("".join(f"m,loops=1,n={i} v=1 1\n" for i in range(8))).status, 204)
        self.assertTrue(g.status()["rules"]["breaker_open"])
        before = g.status()["rules"]
        self.assertGreaterEqual(before["breaker_open_ms"], 0)
        force = self.explain("dropped_v", *admin).split("in force at")[1]
        self.assertIn("not run    for ", force)
        self.assertIn("then reload", force)
        self.assertIn("last error: routing.lua:1: stopped after", force)
        self.assertIn("goes to    no backend: dropped by rule; so decided generation 1; decided again once the scripts "
                      "are run\n", force)
        force = self.explain("m_v{n='7'}", *admin, code=1).split("in force at")[1]
        self.assertIn("the on_error route, for now: the scripts were not run", force)
        self.assertEqual(g.status()["rules"]["errors"], before["errors"])  # a look counts for nothing

    def test_a_gateway_that_does_not_answer(self):
        port = free_port()
        r = self.g.cli("explain", "n", "--config", self.g.config, "--admin", f"127.0.0.1:{port}")
        self.assertEqual(r.returncode, 1)
        self.assertIn("no answer from", r.stderr)

    def test_a_gateway_that_answers_with_an_error_is_quoted(self):
        g = self.g.start()
        r = subprocess.run([os.environ["TIDEGATE_BINARY"], "explain", "n", "--config", g.config], capture_output=True,
                           text=True, timeout=60, env={**os.environ, "TIDEGATE_ADMIN": f"127.0.0.1:{g.http}"})
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn(f"as given: the gateway at http://127.0.0.1:{g.http} answers: ", r.stdout)
        self.assertNotIn("no gateway answers", r.stdout)


class Rewind(unittest.TestCase):
    def test_rewind_delivers_again_and_the_ledger_balances(self):
        sink = Fake(self)
        g = Gateway(self, influx_backend(sink.port)).start()
        for n in range(1, 101):
            self.assertEqual(g.influx(f"m v={n}i {n}").status, 204)
        g.wait_delivered("sink", 100)
        r = g.cli("rewind", "sink", "--to", "start", "--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(r.returncode, 0, r.stderr)
        ledger = g.wait_delivered("sink", 200)
        self.assertEqual(ledger["rewound"], 100)
        self.assertEqual(sorted(times(sink)), sorted(list(range(1, 101)) * 2))

    def test_parquet_holds_each_point_once_after_rewinds_and_restarts(self):
        g = Gateway(self, 'archive = { type = "parquet", dir = "parquet", linger = "100ms" }').start()
        for n in range(1, 101):
            self.assertEqual(g.influx(f"m v={n}i {int(time.time()) * SECOND + n}").status, 204)
            if n % 25 == 0:
                wait_for("delivery", lambda: g.ledger("archive")["waiting"] == 0)
        for _ in range(2):
            r = g.cli("rewind", "archive", "--to", "start", "--admin", f"127.0.0.1:{g.admin}")
            self.assertEqual(r.returncode, 0, r.stderr)
            wait_for("delivery", lambda: g.ledger("archive")["waiting"] == 0)
            self.assertEqual(g.stop(), 0)
            g.start()
        r = request("GET", g.admin, "/api/query?name=m_v&limit=10000")
        self.assertEqual(r.status, 200, r.text)
        self.assertEqual(len(r.json()["rows"]), 100)

    def test_forward_skips_what_waits_and_says_so(self):
        g = Gateway(self, influx_backend(1)).start()  # nobody listens there
        for n in range(1, 11):
            self.assertEqual(g.influx(f"m v={n}i {n}").status, 204)
        wait_for("points that wait", lambda: g.ledger("sink")["waiting"] == 10)
        r = g.cli("rewind", "sink", "--to", "end", "--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(r.returncode, 0, r.stderr)
        ledger = g.ledger("sink")
        self.assertEqual((ledger["skipped"], ledger["waiting"]), (10, 0))

    def test_a_time_that_a_backend_has_not_reached_skips_nothing(self):
        g = Gateway(self, influx_backend(1)).start()  # nobody listens there
        for n in range(1, 11):
            self.assertEqual(g.influx(f"m v={n}i {n}").status, 204)
        wait_for("points that wait", lambda: g.ledger("sink")["waiting"] == 10)
        admin = ("--admin", f"127.0.0.1:{g.admin}")
        r = g.cli("rewind", "sink", "--to", "10m", *admin)  # its points are of 1970
        self.assertEqual(r.returncode, 1, r.stdout)
        self.assertIn("would skip 10 points", r.stderr)
        self.assertIn("--skip", r.stderr)
        self.assertEqual(request("POST", g.admin, "/-/rewind?backend=sink&to=10m").status, 400)
        self.assertEqual(g.ledger("sink")["skipped"], 0)
        r = g.cli("rewind", "sink", "--to", "10m", "--skip", *admin)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(g.ledger("sink")["skipped"], 10)

    def test_what_came_while_a_backend_was_not_configured(self):
        """docs/operations.md, "A backend is taken out of the configuration", as it says."""
        sink = Fake(self)
        archive = 'archive = { type = "parquet", dir = "parquet", linger = "10ms" },'
        g = Gateway(self, archive + influx_backend(sink.port)).start()
        with open(g.config) as f:
            whole = f.read()
        base = int(time.time()) - 100

        def post(first, last):
            for n in range(first, last):
                self.assertEqual(g.influx(f"m v={n}i {(base + n) * SECOND}").status, 204)

        def restart(text):
            self.assertEqual(g.stop(), 0)
            with open(g.config, "w") as f:
                f.write(text)
            g.start()

        post(1, 11)
        g.wait_delivered("sink", 10)
        restart(whole.replace(influx_backend(sink.port), ""))
        taken_out = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(base + 11))
        post(11, 31)
        wait_for("the archive", lambda: g.ledger("archive")["waiting"] == 0)
        restart(whole)
        self.assertIn("sink is configured again", g.log_text())
        self.assertIn("20 points came meanwhile", g.log_text())
        wait_for("it to pass them", lambda: g.ledger("sink")["elsewhere"] == 20)
        r = g.cli("rewind", "sink", "--to", taken_out, "--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for("all of them", lambda: set(times(sink)) == {(base + n) * SECOND for n in range(1, 31)})
        wait_for("the cursor", lambda: g.ledger("sink")["waiting"] == 0)

    def test_parquet_loses_nothing_when_a_rewind_is_taken_back(self):
        g = Gateway(self, 'archive = { type = "parquet", dir = "parquet", linger = "10ms", batch_points = 1 }').start()
        for n in range(1, 101):
            self.assertEqual(g.influx(f"m v={n}i {int(time.time()) * SECOND + n}").status, 204)
        wait_for("delivery", lambda: g.ledger("archive")["waiting"] == 0)
        r = g.cli("rewind", "archive", "--to", "start", "--admin", f"127.0.0.1:{g.admin}")
        self.assertEqual(r.returncode, 0, r.stderr)

        def forward():
            r = g.cli("rewind", "archive", "--to", "end", "--admin", f"127.0.0.1:{g.admin}")
            if r.returncode != 0:
                self.assertIn("wait until it has caught up", r.stderr)
            return r.returncode == 0
        wait_for("the end of the rewind", forward)
        self.assertEqual(g.ledger("archive")["skipped"], 0)
        r = request("GET", g.admin, "/api/query?name=m_v&limit=10000")
        self.assertEqual(len(r.json()["rows"]), 100, r.text)
