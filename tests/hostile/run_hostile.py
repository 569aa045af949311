#!/usr/bin/env python3
"""Gives tenon the broken folders of make_hostile.py and checks what it says.

    run_hostile.py TENON [NAME...]

Each must end with exit status 1 within 20 seconds, with exactly the listed number of "error:" lines on stderr, one
of which names the file and the place, with nothing on stdout, and without a crash or a sanitizer's report.
"""
import os
import subprocess
import sys
import tempfile

import make_hostile

SECONDS = 20
REPORTS = ("Sanitizer", "runtime error:", "Assertion", "core dumped")


def problems(case, status, out, err):
    lines = [line for line in err.splitlines() if "error:" in line]
    if status != 1:
        yield f"exit status {status}, expected 1"
    if any(r in err for r in REPORTS):
        yield "a sanitizer reports"
    if case["errors"] and len(lines) != case["errors"]:
        yield f"{len(lines)} error lines, expected {case['errors']}"
    wanted = [case["file"], *case["words"]]
    if not any(all(w in line for w in wanted) for line in lines):
        yield f"no error line has all of {wanted}"
    if out:
        yield "something on stdout"


def check(tenon, case):
    try:
        p = subprocess.run([tenon, *case["args"]], capture_output=True, text=True, errors="replace", timeout=SECONDS,
                           stdin=subprocess.DEVNULL, env=dict(os.environ, NO_COLOR="1"))
    except subprocess.TimeoutExpired:
        return [f"still running after {SECONDS} s"], ""
    return list(problems(case, p.returncode, p.stdout, p.stderr)), p.stderr


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    tenon, names = os.path.abspath(sys.argv[1]), sys.argv[2:]
    failures = 0
    with tempfile.TemporaryDirectory() as out:
        cases = [c for c in make_hostile.make(out) if not names or c["name"] in names]
        for case in cases:
            bad, said = check(tenon, case)
            failures += bool(bad)
            for text in bad:
                print(f"FAIL {case['name']}: {text}")
            if bad:
                print("     " + "\n     ".join(said.strip().splitlines()[:6]))
    print(f"{len(cases)} folders, {failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
