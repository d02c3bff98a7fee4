#!/usr/bin/env python3
"""tally.py TESTLOG.json: counts test cases in what `meson test` wrote, and prints them.

A cmocka program counts as the cases it ran; any other test program, or one that died before its
summary, counts as one. Last line: N passed, N failed[, N skipped]. Exit 1 when a case failed, when
no case ran, or, with STRICT_SKIPS=1, when one was skipped for want of Redis, Valgrind or BPF.
With LAB_TALLY=FILE the counts are also appended there, as "passed failed skipped".
"""
import json
import os
import re
import sys

RUN = re.compile(r"^\[==========\] (?:.*: )?(\d+) test\(s\) run\.", re.M)
PASSED = re.compile(r"^\[  PASSED  \] (\d+) test\(s\)\.", re.M)
FAILED = re.compile(r"^\[  FAILED  \] (?:.*: )?(\d+) test\(s\), listed below", re.M)
SKIPPED = re.compile(r"^\[  SKIPPED \] (?:.*: )?(\d+) test\(s\), listed below", re.M)
SKIPPED_CASE = re.compile(r"^\[  SKIPPED \] ([^:\n]+)$", re.M)
NEEDED_HERE = re.compile(r"redis|valgrind|bpf|callgrind|btf", re.I)


def reason_of(text, case=None):
    """What the test said last before it skipped."""
    if case:
        text = text[: max(text.find(f"[  SKIPPED ] {case}\n"), 0)].rpartition("[ RUN      ]")[2]
        text = text.partition("\n")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or ["no reason given"])[-1][:200]


def count(entry):
    """-> passed, failed, [(case, reason)] of one test program."""
    text = (entry.get("stdout") or "") + "\n" + (entry.get("stderr") or "")
    name = entry["name"].split(" / ")[-1]
    result = entry["result"]
    if result == "SKIP":
        return 0, 0, [(name, reason_of(text))]
    passed = sum(int(n) for n in PASSED.findall(text))
    failed = sum(int(n) for n in FAILED.findall(text))
    skipped = sum(int(n) for n in SKIPPED.findall(text))
    ok = result in ("OK", "EXPECTEDFAIL")
    if not RUN.search(text):
        return (1, 0, []) if ok else (0, 1, [])
    if not ok and failed == 0:
        failed = 1  # it died, ran too long or leaked after its last case
    if ok and failed > 0:
        print(f"{name}: {failed} cases failed, yet it exited 0")
    cases = list(dict.fromkeys(SKIPPED_CASE.findall(text)))[:skipped]
    cases += [name] * (skipped - len(cases))
    return passed, failed, [(f"{name}: {case}", reason_of(text, case)) for case in cases]


def main():
    try:
        with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
            entries = [json.loads(line) for line in log if line.strip()]
    except OSError as error:
        print(f"tally: {error}: no test ran")
        return 1
    passed = failed = 0
    skips = []
    for entry in entries:
        p, f, s = count(entry)
        passed, failed, skips = passed + p, failed + f, skips + s
        if f:
            print(f"failed: {entry['name']}: {f}")
    wanting = 0
    for case, reason in skips:
        bad = os.environ.get("STRICT_SKIPS") == "1" and NEEDED_HERE.search(case + " " + reason)
        wanting += bool(bad)
        print(f"{'failed (may not be skipped here)' if bad else 'skipped'}: {case}: {reason}")
    failed, skipped = failed + wanting, len(skips) - wanting
    if os.environ.get("LAB_TALLY"):
        with open(os.environ["LAB_TALLY"], "a", encoding="utf-8") as out:
            out.write(f"{passed} {failed} {skipped}\n")
    tail = f", {skipped} skipped" if skipped else ""
    print(f"{passed} passed, {failed} failed{tail}")
    return 1 if failed or passed == 0 else 0


sys.exit(main())
