#!/usr/bin/env python3
"""The load generator beside wrk and h2load: the same server, the same requests, in turns.

Creates (POST /v1/codeq/tasks) on a codeqd started here, one generator thread, so many connections,
each asking again at its answer. Each round runs every program once, in another order; what is printed
is the median over the rounds. CPU is the generator's own, by wait4. The last line is this generator
in open loop at a fixed rate, which the others do not have. A program that is missing is left out.

usage: bench/beside.py BUILD-FOLDER [ROUNDS [SECONDS]]
"""
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
OPEN_RATE = 20000
BODY = json.dumps({"command": "GENERATE_MASTER", "priority": 0, "payload": "x" * 64})


def run(argv):
    """stdout, CPU seconds of the program."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(argv, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return out.read().decode(), usage.ru_utime + usage.ru_stime


def ms(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def with_wrk(url, folder, seconds):
    script = os.path.join(folder, "create.lua")
    with open(script, "w") as file:
        file.write("wrk.method='POST' wrk.headers['Authorization']='Bearer dev-token' "
                   "wrk.headers['Content-Type']='application/json' wrk.body=[[%s]]" % BODY)
    text, cpu = run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", script,
                     url + "/v1/codeq/tasks"])
    if "Non-2xx" in text:
        sys.exit("beside: wrk was answered otherwise than with 202:\n" + text)
    count = int(re.search(r"(\d+) requests in ([\d.]+)s", text)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    p = {k: ms(re.search(rf"\b{k}%\s+(\S+)", text)[1]) for k in (50, 90, 99)}
    return rate, cpu / count * 1e6, p[50], p[90], p[99]


def with_h2load(url, folder, seconds):
    body, log = os.path.join(folder, "body.json"), os.path.join(folder, "h2load.log")
    with open(body, "w") as file:
        file.write(BODY)
    if os.path.exists(log):
        os.unlink(log)
    text, cpu = run(["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-D{seconds}", "-d", body,
                     "-H", "Authorization: Bearer dev-token", "-H", "Content-Type: application/json",
                     "--log-file", log, url + "/v1/codeq/tasks"])
    took = sorted(int(line.split()[2]) for line in open(log) if line.split()[1] == "202")
    if not took:
        sys.exit("beside: h2load had no answer 202:\n" + text)
    at = [took[-(-len(took) * k // 100) - 1] / 1e3 for k in (50, 90, 99)]
    return len(took) / seconds, cpu / len(took) * 1e6, *at


def with_ours(bench, url, folder, seconds, rate):
    role = {"role": "producer", "payload_bytes": 64}
    if rate:
        role |= {"arrival": "constant", "connections": 1024,
                 "phases": [{"duration_ms": seconds * 1000, "rate_per_sec": rate}]}
    else:
        role["concurrency"] = CONNECTIONS
    path = os.path.join(folder, "scenario.json")
    with open(path, "w") as file:
        json.dump({"schema": "codeq-lab.scenario/1", "id": "beside", "rev": 1,
                   "duration_ms": seconds * 1000, "drain_ms": 0, "roles": [role]}, file)
    text, cpu = run([bench, "load", path, "--target", url, "--no-result", "--json"])
    line = json.loads(text)["scenarios"][0]["runs"][0]["run"]
    f = line["figures"]
    if f["errors"] or f["created"] < 1:
        sys.exit(f"beside: {f}")
    nan = float("nan")
    return (f["created"] / seconds, cpu / f["created"] * 1e6, f.get("create.p50_ms", nan),
            f.get("create.p90_ms", nan), f.get("create.p99_ms", nan))


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        sys.exit(0 if "--help" in sys.argv else 2)
    build = os.path.abspath(sys.argv[1])
    rounds, seconds = (int(x) for x in (sys.argv[2:4] + ["5", "3"][len(sys.argv) - 2:])[:2])
    bench, codeqd = build + "/bench/codeq-bench", build + "/src/codeqd"
    with tempfile.TemporaryDirectory(prefix="codeq-beside-") as folder:
        redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", folder + "/r.sock",
                                  "--save", "", "--dir", folder], stdout=subprocess.DEVNULL)
        while not os.path.exists(folder + "/r.sock"):
            time.sleep(0.01)
            if redis.poll() is not None:
                sys.exit("beside: redis-server did not start")
        log = open(folder + "/codeqd.log", "wb")
        service = subprocess.Popen([codeqd, "--listen", "127.0.0.1:0", "--redis",
                                    f"unix:{folder}/r.sock"], stderr=log, stdout=log)
        url = None
        while url is None:
            time.sleep(0.05)
            found = re.search(r"listening address=(\S+)", open(folder + "/codeqd.log").read())
            url = found and "http://" + found[1]
            if service.poll() is not None:
                sys.exit("beside: codeqd did not start:\n" + open(folder + "/codeqd.log").read())
        ways = {"codeq-bench": lambda: with_ours(bench, url, folder, seconds, 0)}
        for name, way in (("wrk", with_wrk), ("h2load", with_h2load)):
            if shutil.which(name):
                ways[name] = lambda way=way: way(url, folder, seconds)
            else:
                print(f"beside: {name}: not installed: left out", file=sys.stderr)
        ways[f"codeq-bench open {OPEN_RATE}/s"] = \
            lambda: with_ours(bench, url, folder, seconds, OPEN_RATE)
        try:
            got = {name: [] for name in ways}
            for number in range(rounds):
                for name in random.Random(number).sample(list(ways), len(ways)):
                    subprocess.run(["redis-cli", "-s", folder + "/r.sock", "FLUSHALL"],
                                   stdout=subprocess.DEVNULL, check=True)
                    got[name].append(ways[name]())
        finally:
            for child in (service, redis):
                child.send_signal(signal.SIGTERM)
                child.wait()
    print(f"{'':24} {'requests/s':>11} {'CPU us/req':>11} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8}")
    for name, rows in got.items():
        m = [statistics.median(column) for column in zip(*rows)]
        print(f"{name:24} {m[0]:11.0f} {m[1]:11.2f} {m[2]:8.2f} {m[3]:8.2f} {m[4]:8.2f}")
    for other in ("wrk", "h2load"):
        for ours in got:
            if other in got and ours.startswith("codeq-bench"):
                ratio = [a[1] / b[1] for a, b in zip(got[ours], got[other])]
                print(f"CPU a request, {ours} / {other}: {statistics.median(ratio):.2f} "
                      f"({min(ratio):.2f}..{max(ratio):.2f} over {rounds} rounds)")


main()
