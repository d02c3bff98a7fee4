#!/usr/bin/env python3
"""The load generator beside wrk and h2load: the same server, the same requests, in turns.

Creates (POST /v1/codeq/tasks) on a codeqd started here, one generator thread each. Two comparisons:

closed   32 connections, each asking again at its answer: as fast as it goes
paced    20,000 requests/s: the schedule of codeq-bench, wrk with delay() of 40..60 ms on 1024
         connections, h2load with --rps on 100 connections. Theirs is a rate, not a schedule: wrk
         sends what fell due in each ms, h2load in bursts, and both count from the actual send

Each round runs every program once, in another order; what is printed is the median over the rounds.
CPU is the generator's own, by wait4, start-up included. A program that is missing is left out.

examples: bench/beside.py build --pin
          bench/beside.py build --rounds 10 --seconds 4 --way paced --pin
"""
import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

CONNECTIONS = 32
WRK_DELAY_MS = (40, 60)
H2LOAD_CONNECTIONS = 100
RATE_SLACK = 0.1  # at equal rate: no further off than this
NAN = float("nan")
COLUMNS = ("requests/s", "CPU us/req", "user", "system", "waits", "p50 ms", "p90 ms", "p99 ms", "lag p99 us")


class Run:
    """What one run of one generator came to."""

    def __init__(self, rate, count, usage, quantiles_ms, lag_us=NAN):
        self.rate = rate
        self.user, self.system = (s / count * 1e6 for s in (usage.ru_utime, usage.ru_stime))
        self.cpu = self.user + self.system
        self.row = (rate, self.cpu, self.user, self.system, usage.ru_nvcsw / count, *quantiles_ms, lag_us)


def pinned(core):
    return (lambda: os.sched_setaffinity(0, {core})) if core is not None else None


def run(argv, core):
    """stdout and resource usage of the program; its failure is ours."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(argv, stdout=out, stderr=errors, preexec_fn=pinned(core))
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        return out.read().decode(), errors.read().decode(), usage


def ms(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


class Beside:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        cores = sorted(os.sched_getaffinity(0))
        if args.pin and len(cores) < 2:
            sys.exit("beside: --pin: one core is not enough: leave it out")
        self.ours_core, self.server_core = cores[:2] if args.pin else (None, None)
        self.body = json.dumps({"command": "GENERATE_MASTER", "priority": 0, "payload": "x" * 64})

    def wrk(self, rate):
        script = os.path.join(self.folder, "create.lua")
        connections = CONNECTIONS
        with open(script, "w") as file:
            file.write("wrk.method='POST' wrk.headers['Authorization']='Bearer dev-token' "
                       "wrk.headers['Content-Type']='application/json' wrk.body=[[%s]]\n" % self.body)
            if rate:
                low, high = WRK_DELAY_MS
                connections = max(1, round(rate * (low + high) / 2 / 1000))
                file.write(f"function delay() return math.random({low},{high}) end\n")
        text, errors, usage = run(["wrk", "-t1", f"-c{connections}", f"-d{self.args.seconds}s", "--latency",
                                   "-s", script, self.url + "/v1/codeq/tasks"], self.ours_core)
        if "Non-2xx" in text or "requests in" not in text:
            sys.exit("beside: wrk was not answered with 202:\n" + text + errors)
        count = int(re.search(r"(\d+) requests in ([\d.]+)", text)[1])
        p = [ms(re.search(rf"\b{k}%\s+(\S+)", text)[1]) for k in (50, 90, 99)]
        return Run(float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), count, usage, p)

    def h2load(self, rate):
        body, log = os.path.join(self.folder, "body.json"), os.path.join(self.folder, "h2load.log")
        with open(body, "w") as file:
            file.write(self.body)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)
        connections = H2LOAD_CONNECTIONS if rate else CONNECTIONS
        pace = [f"--rps={rate / connections:g}"] if rate else []
        text, errors, usage = run(
            ["h2load", "--h1", "-t1", f"-c{connections}", f"-D{self.args.seconds}", *pace, "-d", body,
             "-H", "Authorization: Bearer dev-token", "-H", "Content-Type: application/json",
             "--log-file", log, self.url + "/v1/codeq/tasks"], self.ours_core)
        took = sorted(int(line.split()[2]) for line in open(log) if line.split()[1] == "202")
        if not took:
            sys.exit("beside: h2load had no answer 202:\n" + text + errors)
        at = [took[-(-len(took) * k // 100) - 1] / 1e3 for k in (50, 90, 99)]
        return Run(len(took) / self.args.seconds, len(took), usage, at)

    def ours(self, rate):
        duration_ms = self.args.seconds * 1000
        role = {"role": "producer", "payload_bytes": 64}
        if rate:
            role |= {"arrival": "constant", "connections": 1024,
                     "phases": [{"duration_ms": duration_ms, "rate_per_sec": rate}]}
        else:
            role["concurrency"] = CONNECTIONS
        path = os.path.join(self.folder, "scenario.json")
        with open(path, "w") as file:
            json.dump({"schema": "codeq-lab.scenario/1", "id": "beside", "rev": 1, "duration_ms": duration_ms,
                       "drain_ms": 0, "roles": [role]}, file)
        text, errors, usage = run([self.args.build + "/bench/codeq-bench", "load", path, "--target", self.url,
                                   "--no-result", "--json"], self.ours_core)
        if not text:
            sys.exit("beside: " + errors)
        line = json.loads(text)["scenarios"][0]["runs"][0]["run"]
        f = line["figures"]
        if f["errors"] or f["created"] < 1:
            sys.exit(f"beside: {f}")
        if rate and line.get("void"):
            print(f"beside: codeq-bench, paced: void: {line['void']}", file=sys.stderr)
        lag_us = line["lag_p99_ns"] / 1e3 if rate else NAN
        return Run(f["created"] / self.args.seconds, f["created"], usage,
                   [f.get(f"create.p{k}_ms", NAN) for k in (50, 90, 99)], lag_us)

    @contextlib.contextmanager
    def server(self):
        self.socket = self.folder + "/r.sock"
        log_path = self.folder + "/codeqd.log"
        redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "",
                                  "--dir", self.folder], stdout=subprocess.DEVNULL,
                                 preexec_fn=pinned(self.server_core))
        service = None
        try:
            while not os.path.exists(self.socket):
                time.sleep(0.01)
                if redis.poll() is not None:
                    sys.exit("beside: redis-server did not start")
            with open(log_path, "wb") as log:
                service = subprocess.Popen([self.args.build + "/src/codeqd", "--listen", "127.0.0.1:0", "--redis",
                                            "unix:" + self.socket], stderr=log, stdout=log,
                                           preexec_fn=pinned(self.server_core))
            found = None
            while found is None:
                time.sleep(0.05)
                found = re.search(r"listening address=(\S+)", open(log_path).read())
                if service.poll() is not None:
                    sys.exit("beside: codeqd did not start:\n" + open(log_path).read())
            self.url = "http://" + found[1]
            yield
        finally:
            for child in filter(None, (service, redis)):
                child.send_signal(signal.SIGTERM)
                child.wait()

    def measure(self, way, rate):
        generators = {"codeq-bench": self.ours}
        for name, generator in (("wrk", self.wrk), ("h2load", self.h2load)):
            if shutil.which(name):
                generators[name] = generator
            else:
                print(f"beside: {name}: not installed: left out", file=sys.stderr)
        got = {name: [] for name in generators}
        for number in range(self.args.rounds):
            for name in random.Random(number).sample(list(generators), len(generators)):
                if sys.stderr.isatty():
                    print(f"\rround {number + 1} of {self.args.rounds}, {way}: {name:12}", end="", file=sys.stderr)
                subprocess.run(["redis-cli", "-s", self.socket, "FLUSHALL"], stdout=subprocess.DEVNULL, check=True)
                got[name].append(generators[name](rate))
        if sys.stderr.isatty():
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
        return got


def show(title, got, rate):
    print(f"{title:24}" + "".join(f"{c:>12}" for c in COLUMNS))
    for name, runs in got.items():
        m = [statistics.median(column) for column in zip(*(r.row for r in runs))]
        print(f"  {name:22}" + "".join(f"{'':>12}" if v != v else f"{v:12.0f}" if v >= 1000 else f"{v:12.2f}"
                                       for v in m))
    paired = {}
    for other in ("wrk", "h2load"):
        pairs = list(zip(got["codeq-bench"], got.get(other, [])))
        kept = [p for p in pairs if not rate or all(abs(r.rate / rate - 1) <= RATE_SLACK for r in p)]
        paired[other] = kept
        if len(kept) < len(pairs):
            print(f"  {other}: {len(pairs) - len(kept)} of {len(pairs)} rounds are in no ratio: one of the two was "
                  f"more than {RATE_SLACK:.0%} off the rate")
    for other in ("wrk", "h2load"):
        for label in ("cpu", "user", "system") if other in got else ():
            ratio = [getattr(a, label) / getattr(b, label) for a, b in paired[other]
                     if getattr(b, label) > 0]
            if ratio:
                print(f"  {label} a request, codeq-bench / {other}: {statistics.median(ratio):.2f} "
                      f"({min(ratio):.2f}..{max(ratio):.2f} over {len(ratio)} rounds)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the build folder")
    parser.add_argument("rounds_", metavar="ROUNDS", nargs="?", type=int, help="as --rounds")
    parser.add_argument("seconds_", metavar="SECONDS", nargs="?", type=int, help="as --seconds")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each program (5)")
    parser.add_argument("--seconds", type=int, default=3, help="a run takes (3)")
    parser.add_argument("--rate", type=int, default=20000, help="requests/s where paced (20000)")
    parser.add_argument("--way", choices=("closed", "paced", "both"), default="both", help="what is compared (both)")
    parser.add_argument("--pin", action="store_true",
                        help="generators on one core, codeqd and Redis on another: without it the kernel's "
                             "choices scatter CPU and latencies")
    args = parser.parse_args()
    args.rounds, args.seconds = args.rounds_ or args.rounds, args.seconds_ or args.seconds
    args.build = os.path.abspath(args.build)
    if args.rounds < 1 or args.seconds < 1 or args.rate < 100:
        parser.error("at least 1 round, 1 second, 100 requests/s")
    with tempfile.TemporaryDirectory(prefix="codeq-beside-") as folder:
        beside = Beside(args, folder)
        with beside.server():
            if args.way != "paced":
                show(f"closed, {CONNECTIONS} connections", beside.measure("closed", 0), 0)
            if args.way != "closed":
                show(f"paced, {args.rate}/s", beside.measure("paced", args.rate), args.rate)


main()
