"""Two threads beside one while others use the processors: a second thread must not make anything slower.

load.py TENON MODEL [--tokens 128] [--precision strict] [--seconds 0.5] [--rounds 20] [--cores 0,1] [--json FILE]
MODEL is an encoder's folder or a library made of it. Everything, the busy loops too, runs on the two cores. Beside no busy
loop, one, and one per core, a session of one thread and one of two run by turns of that many seconds. A row is the median
milliseconds per call (the spread over turns) of each, and by how many times two threads are as fast: the median over rounds,
and its quartiles."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parity"))


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tenon")
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--precision", default="strict")
    p.add_argument("--seconds", type=float, default=0.5)
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--cores", default="0,1")
    p.add_argument("--json", type=pathlib.Path)
    return p.parse_args()


def compiled(args, work):
    if args.model.is_file():
        return args.model
    path = pathlib.Path(work) / "libencoder.so"
    subprocess.run([args.tenon, "compile", args.model, "-o", path, "--precision", args.precision], check=True, stdout=sys.stderr)
    return path


def turn(session, inputs, seconds):
    """Milliseconds per call: the turn's time over its calls, so that a call that had to stand still counts in full."""
    calls, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds or not calls:
        session.run("encode", **inputs)
        calls += 1
    return (now - begin) / calls * 1e3


def measure(sessions, inputs, args, loops):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        for s in sessions:
            turn(s, inputs, args.seconds)
        return [[turn(s, inputs, args.seconds) for s in sessions] for _ in range(args.rounds)]
    finally:
        for b in busy:
            b.kill()
            b.wait()


def main():
    args = arguments()
    cores = [int(c) for c in args.cores.split(",")]
    os.sched_setaffinity(0, cores)
    import library
    import numpy as np
    rows = []
    with tempfile.TemporaryDirectory() as work:
        model = library.Model(str(compiled(args, work)))
        sessions = [library.Session(model, threads=n) for n in (1, 2)]
        values = {"ids": 1000, "mask": 1, "types": 0}
        inputs = {name: np.full((1, args.tokens), value, np.int32) for name, value in values.items()}
        print("busy loops | 1 thread ms | 2 threads ms | times as fast")
        for loops in (0, 1, len(cores)):
            turns = measure(sessions, inputs, args, loops)
            one, two = ([t[i] for t in turns] for i in (0, 1))
            q = statistics.quantiles([a / b for a, b in turns], n=4)
            rows.append({"loops": loops, "one": one, "two": two})
            cells = [f"{statistics.median(x):.1f} [{min(x):.1f}..{max(x):.1f}]" for x in (one, two)]
            print(f"{loops} | {cells[0]} | {cells[1]} | {q[1]:.2f} [{q[0]:.2f}..{q[2]:.2f}]", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
