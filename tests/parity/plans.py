#!/usr/bin/env python3
"""The arenas of all tiny folders: none takes more than 1.1 times what lives at its fullest moment.

    plans.py TENON
"""
import glob
import json
import os
import subprocess
import sys

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
MOST = 1.1


def plans(tenon, folder):
    got = subprocess.run([tenon, "inspect", "--json", folder], capture_output=True, text=True)
    if got.returncode:
        sys.exit(f"{folder}: {got.stderr}")
    for function in json.loads(got.stdout)["functions"]:
        for plan in function["plans"]:
            yield function["name"], plan


def main():
    tenon, bad, seen = sys.argv[1], 0, 0
    for config in sorted(glob.glob(os.path.join(MODELS, "*", "config.json"))):
        folder = os.path.dirname(config)
        for name, plan in plans(tenon, folder):
            seen += 1
            if plan["arena"] < plan["least"] or plan["arena"] > MOST * plan["least"]:
                bad += 1
                print(f"FAIL {os.path.basename(folder)} {name}: length {plan['length']}: {plan['arena']} bytes, "
                      f"the least is {plan['least']}")
    print(f"{seen} plans, {bad} too large")
    sys.exit(bad > 0 or not seen)


main()
