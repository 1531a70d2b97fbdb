"""Rounds of windows: the generator's reports, and what the contestants used meanwhile."""

import json
import os
import statistics
import subprocess
import sys
import time

from .gateways import check_rows
from .processes import GENERATOR_CORE, Invalid, Process, accepts, free_port, notice
from .workloads import WORKLOADS

LATENCY_REQUESTS = 1_000
THROUGHPUT_SECONDS, THROUGHPUT_CONCURRENCY = 3, 64
WINDOW_SECONDS_MAX = 900


class Direct:
    """The provider without anything in between."""

    name, key, headers, keys_file, is_exact, pace = "direct", "none", (), None, True, 1.0

    def __init__(self, mock):
        self.mock_url = f"http://{mock}"

    def url_for(self, _workload):
        return self.mock_url

    def model(self, workload):
        return WORKLOADS[workload].model


def scenario(binaries, one, text, folder, *more):
    """Runs a scenario's text through a contestant, with its keys, and looks at its process."""
    path = folder / "scenario.toml"
    path.write_text(text)
    keys = ("--key-file", one.keys_file) if one.keys_file else ("--key-env", "BENCH_KEY")
    command = ["taskset", "-c", GENERATOR_CORE, binaries / "loadtest", "run", path, "--url", one.url, *keys]
    command += ["--pid", one.process.child.pid, "--report", folder / "report.json", *more]
    done = subprocess.run(list(map(str, command)), env={**os.environ, "BENCH_KEY": one.key}, stdout=sys.stderr)
    if done.returncode not in (0, 3):
        raise Invalid(f"the load test ends with {done.returncode}")
    report = json.loads((folder / "report.json").read_text())
    if report["errors"] or report["uncounted_failures"]:
        raise Invalid(f"answers went wrong: {report['failures']} {report['uncounted_failures']}")
    return report


def asked(report):
    return report["requests"] + report["uncounted_requests"]


def start_mock(binaries, folder):
    port = free_port()
    command = [binaries / "loadtest", "mock", "--listen", f"127.0.0.1:{port}", "--no-journal"]
    process = Process("mock", GENERATOR_CORE, command, folder / "mock.log")
    process.wait_for(lambda: accepts(port), "listening")
    return process, f"127.0.0.1:{port}"


def generate(binaries, contestant, workload, *length, concurrency=8, may_fail=False):
    """One run of the generator: its report, once every answer has been found right."""
    described = WORKLOADS[workload]
    keys = ("--key-file", contestant.keys_file) if contestant.keys_file else ("--key-env", "BENCH_KEY")
    check = ("--script", described.model) if contestant.is_exact else ("--check", "text")
    command = [
        *("taskset", "-c", GENERATOR_CORE),
        *(binaries / "loadtest", "run", "--quiet", "--json"),
        *("--url", contestant.url_for(workload), *keys),
        *(part for header in contestant.headers for part in ("--header", header)),
        *("--workload", described.generator, "--model", contestant.model(workload), *check),
        *("--concurrency", concurrency, *length),
    ]
    where = f"{workload} through {contestant.name}"
    try:
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            timeout=WINDOW_SECONDS_MAX,
            env={**os.environ, "BENCH_KEY": contestant.key},
        )
    except subprocess.TimeoutExpired:
        raise Invalid(f"{where}: the generator hangs") from None
    if not done.stdout:
        raise Invalid(f"{where}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    if report["errors"] and not may_fail:
        raise Invalid(f"{where}: of {report['requests']} requests {report['errors']} went wrong: {report['failures']}")
    return report


class Measuring:
    """A run: contestants that are all up, and what has been found out about them."""

    def __init__(self, binaries, mock, contestants, rounds, scale):
        self.binaries = binaries
        self.direct = Direct(mock)
        self.contestants = contestants
        self.rounds = rounds
        self.scale = scale
        self.asked = {one.name: 0 for one in contestants}
        self.windows = {}
        self.added = {}

    def ask(self, one, workload, requests, concurrency=8):
        if one is not self.direct:
            self.asked[one.name] += requests
        return generate(self.binaries, one, workload, "--requests", requests, concurrency=concurrency)

    def requests(self, one, workload):
        described = WORKLOADS[workload]
        # A paced stream takes its time whatever it costs: as many for all.
        pace = 1.0 if described.is_paced else one.pace
        return max(described.concurrency, int(described.requests * self.scale * pace))

    def window(self, one, workload):
        requests, concurrency = self.requests(one, workload), WORKLOADS[workload].concurrency
        before = one.process.cpu_us()
        report = self.ask(one, workload, requests, concurrency)
        # The last rows, and what else a request leaves behind, belong to it.
        time.sleep(0.3)
        window = {
            "cpu_us": (one.process.cpu_us() - before) / requests,
            "p50_us": report["latency_us"]["p50"],
            "p99_us": report["latency_us"]["p99"],
            "rss_kib": one.process.rss_kib(),
        }
        if WORKLOADS[workload].is_paced:
            direct = self.ask(self.direct, workload, requests, concurrency)
            for name, key in (("first_event", "first_event_us"), ("gap", "gap_added_us")):
                for percentile in ("p50", "p99"):
                    added = report[key][percentile] - direct[key][percentile]
                    window[f"added_{name}_{percentile}_us"] = added
        return window

    def warm_up(self, workload):
        for one in self.takers(workload):
            self.ask(one, workload, max(8, self.requests(one, workload) // 10), WORKLOADS[workload].concurrency)

    def takers(self, workload, turn=0):
        """Those that can do it; each round starts with another one."""
        takers = [one for one in self.contestants if one.takes(workload)]
        turn %= max(1, len(takers))
        return takers[turn:] + takers[:turn]

    def round(self, number, workloads):
        for workload in workloads:
            for one in self.takers(workload, number):
                window = self.window(one, workload)
                self.windows.setdefault(workload, {}).setdefault(one.name, []).append(window)
                notice(
                    f"round {number + 1}/{self.rounds}  {workload:<12} {one.name:<19}"
                    f"{window['cpu_us']:>9.1f} µs CPU  p99 {window['p99_us']:>8.0f} µs"
                )
        if "small" not in workloads:
            return
        for one in self.takers("small", number):
            requests = max(50, int(LATENCY_REQUESTS * min(1.0, one.pace * 5)))
            direct = self.ask(self.direct, "small", requests, 1)
            through = self.ask(one, "small", requests, 1)
            latency = {p: through["latency_us"][p] - direct["latency_us"][p] for p in ("p50", "p99")}
            self.added.setdefault(one.name, []).append(latency)

    def held(self, folder, streams):
        """Memory of each of so many streams that are open at once, in KiB. Every event is checked."""
        found = {}
        for one in self.takers("held"):
            if one.pace < 1.0:
                continue
            described = WORKLOADS["held"]
            scenario = folder / "held.toml"
            check = "exact" if one.is_exact else "text"
            scenario.write_text(f"""
                name = "held"
                [[mix]]
                name = "held"
                dialect = "chat"
                stream = 1
                model = {json.dumps(one.model("held"))}
                script = "{described.model}"
                check = "{check}"
                [[phases]]
                name = "coming"
                seconds = 3
                concurrency = [1, {streams}]
                counted = false
                [[phases]]
                name = "held"
                requests = {streams}
                concurrency = {streams}
            """)
            before = one.process.rss_kib()
            pid = one.process.child.pid
            command = ["taskset", "-c", GENERATOR_CORE, self.binaries / "loadtest", "run", scenario, "--quiet", "--json"]
            command += ["--url", one.url_for("held"), "--key-env", "BENCH_KEY", "--pid", pid]
            env = {**os.environ, "BENCH_KEY": one.key}
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, timeout=WINDOW_SECONDS_MAX)
            if not done.stdout:
                raise Invalid(f"held through {one.name}: {done.stderr.strip()}")
            report = json.loads(done.stdout)
            wrong = report["errors"] + sum(report["uncounted_failures"].values())
            if wrong:
                raise Invalid(f"held through {one.name}: {wrong} went wrong: {report['failures']} {report['uncounted_failures']}")
            self.asked[one.name] += report["requests"] + report["uncounted_requests"]
            found[one.name] = (report["server"]["rss_kib_max"] - before) / streams
            notice(f"held  {one.name:<19}{found[one.name]:>9.1f} KiB for each of {streams} streams")
        return found

    def throughput(self):
        """Right answers a second when as much is asked as it takes; none may be wrong."""
        best = {}
        for turn in range(2):
            for one in self.takers("small", turn):
                seconds = ("--seconds", THROUGHPUT_SECONDS)
                report = generate(self.binaries, one, "small", *seconds, concurrency=THROUGHPUT_CONCURRENCY)
                self.asked[one.name] += report["requests"]
                best[one.name] = max(best.get(one.name, 0), report["requests_per_s"])
                notice(f"throughput  {one.name:<19}{report['requests_per_s']:>9.0f} a second")
        return best

    def check_rows(self):
        for one in self.contestants:
            if hasattr(one, "rows"):
                check_rows(one, self.asked[one.name])

    def rows(self):
        """Medians of the rounds."""

        def median_of(rounds, key):
            return statistics.median(window[key] for window in rounds)

        return {
            workload: {
                name: {key: median_of(rounds, key) for key in rounds[0]} | {"rounds": rounds}
                for name, rounds in by_name.items()
            }
            for workload, by_name in self.windows.items()
        }

    def added_latency(self):
        return {
            name: {p: statistics.median(latency[p] for latency in rounds) for p in ("p50", "p99")}
            for name, rounds in self.added.items()
        }
