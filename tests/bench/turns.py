"""Engines that run in turn, each in its own process: while one is timed the others are stopped, so that nobody's waiting
threads or caches stand in another's way.

A benchmark calls serve() in the child with a function that makes one run, and Engine in the parent."""
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time


def serve(make):
    """The child: make() returns (run, facts). Answers `N` with the seconds of N runs, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    try:
        run, facts = make()
        run()
        print(json.dumps({"ready": facts}), file=answers, flush=True)
    except Exception as e:  # the engine cannot do this: the table says so
        print(json.dumps({"error": f"{type(e).__name__}: {e}".splitlines()[0][:200]}), file=answers, flush=True)
        return
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            t = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - t)
        print(json.dumps(seconds), file=answers, flush=True)


class Engine:
    def __init__(self, name, command, threads, log):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="false")
        self.name, self.seconds = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        answer = self.process.stdout.readline()
        answer = json.loads(answer) if answer else {"error": "it ended without a word"}
        self.error, self.facts = answer.get("error"), answer.get("ready")
        if not self.error:
            self.process.send_signal(signal.SIGSTOP)

    def turn(self, runs):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        seconds = json.loads(self.process.stdout.readline())
        self.process.send_signal(signal.SIGSTOP)
        return seconds

    def close(self):
        self.process.kill()
        self.process.wait()


def interleave(engines, rounds, target=0.1):
    """Rounds of turns of about `target` seconds each; every engine's first round only warms up. Fills .seconds with one
    median per round."""
    runs = {}
    for i in range(rounds + 1):
        for e in engines:
            seconds = e.turn(runs.get(e, 2))
            runs[e] = max(1, min(50, int(target / max(min(seconds), 1e-6))))
            if i:
                e.seconds.append(statistics.median(seconds))


def ratio(ours, theirs):
    """How many times as fast as theirs: the median over rounds."""
    return statistics.median(b / a for a, b in zip(ours.seconds, theirs.seconds))


def limits(tenon, threads):
    """Read bandwidth and arithmetic peaks of now, as `tenon bench --limits` measures them."""
    out = subprocess.run([tenon, "bench", "--limits", "--threads", str(threads), "--json"], capture_output=True, text=True, check=True).stdout
    return json.loads(out)[0]["limits"]


def processor():
    """The processor and the flags that matter, in one line."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    field = lambda name: next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(name))
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
    flags = field("flags").split()
    return f"{field('model name')} (family {field('cpu family')}, model {field('model')}): {' '.join(f for f in wanted if f in flags)}"
