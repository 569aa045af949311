#!/usr/bin/env python3
"""all-MiniLM-L6-v2 as a library: embed.c against transformers' embeddings, any batch and padding the same, fast to
load, one copy of the weights for two processes.

    minilm.py TENON FOLDER CC     skipped (status 77) when FOLDER has no model (tools/fetch-minilm)
"""
import ctypes
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(HERE, "..", "parity")
sys.path.insert(0, PARITY)
import golden  # noqa: E402

F32, I32 = 2, 8  # tenon/ir.h
LOAD_SECONDS = 0.1
LENGTH = 256  # of this model's texts


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("dtype", ctypes.c_uint32), ("rank", ctypes.c_uint32),
                ("shape", ctypes.c_int64 * 8)]


class Model:
    """The library by its exported functions, as minilm.h declares them."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.model, self.session = ctypes.c_void_p(), ctypes.c_void_p()
        self.lib.minilm_error.restype = ctypes.c_char_p
        words = ctypes.create_string_buffer(512)
        begin = time.perf_counter()
        if self.lib.minilm_open(None, ctypes.byref(self.model), words, ctypes.c_uint64(512)):
            sys.exit(words.value.decode())
        self.seconds = time.perf_counter() - begin
        if self.lib.minilm_session_new(self.model, None, ctypes.byref(self.session)):
            sys.exit("no session")

    def close(self):
        self.lib.minilm_session_free(self.session)
        self.lib.minilm_close(self.model)

    def tokenize(self, text):
        data, n, ids = text.encode(), ctypes.c_uint64(512), np.zeros(512, np.int32)
        self.check(self.lib.minilm_tokenize(self.session, data, ctypes.c_uint64(len(data)), None, ctypes.c_uint64(0),
                                            ctypes.c_uint32(0),
                                            ctypes.c_void_p(ids.ctypes.data), None, ctypes.byref(n)))
        ids = ids[:n.value]
        return ids if len(ids) <= LENGTH else np.append(ids[:LENGTH - 1], ids[-1])

    def embed(self, rows, width):
        ids, mask = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.int32)
        for i, row in enumerate(rows):
            ids[i, :len(row)], mask[i, :len(row)] = row, 1
        types, out = np.zeros_like(ids), np.full((len(rows), 384), np.nan, np.float32)
        tensors = (Tensor * 3)(*[self.tensor(x, I32) for x in (ids, mask, types)])
        result = (Tensor * 1)(self.tensor(out, F32))
        self.check(self.lib.minilm_invoke(self.session, self.entry("embed"), tensors, result))
        return out

    def entry(self, name):
        """Entries in the order of the library's table: encode, embed."""
        return ctypes.c_uint32(["encode", "embed"].index(name))

    @staticmethod
    def tensor(x, dtype):
        return Tensor(x.ctypes.data, dtype, x.ndim, (ctypes.c_int64 * 8)(*x.shape))

    def check(self, status):
        if status:
            sys.exit(f"status {status}: {self.lib.minilm_error(self.session).decode()}")


failures = 0


def line(ok, what, text):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what:12} {text}", flush=True)


def program(tmp, cc, sentences, expected):
    """The example, compiled with all warnings as errors, from another folder than the library's."""
    source = os.path.join(HERE, "..", "..", "plugins", "examples", "embed", "embed.c")
    subprocess.run([cc, "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{tmp}", source, f"-L{tmp}", "-lminilm",
                    f"-Wl,-rpath,{tmp}", "-o", f"{tmp}/embed"], check=True)
    out = subprocess.run([f"{tmp}/embed"], input="\n".join(sentences) + "\n", capture_output=True, text=True, cwd="/",
                         check=True).stdout
    got = np.array([row.split() for row in out.splitlines()], np.float64)
    d = golden.Difference(got, expected)
    cosine = min(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(got, expected))
    line(d.abs <= 1e-5 and got.shape == expected.shape, "embed.c", f"{len(got)} sentences, max abs {d.abs:.2e}, "
         f"{d.ratio:.3f} of tolerance, least cosine {cosine:.8f}")


def token_ids(m, sentences, golds):
    """Against the ids of transformers' tokenizer; the goldens are padded."""
    same = sum(np.array_equal(m.tokenize(s), ids[mask == 1]) for s, ids, mask in zip(sentences, golds["ids"], golds["mask"]))
    line(same == len(sentences), "token ids", f"{same} of {len(sentences)} sentences equal")


def batches(m, sentences, expected):
    rows = [m.tokenize(s) for s in sentences]
    worst = 0.0
    for size in range(1, 9):
        for at in range(0, len(rows), size):
            part = rows[at:at + size]
            longest = max(len(r) for r in part)
            for width in {longest, min(longest + 13, LENGTH)}:
                d = golden.Difference(m.embed(part, width), expected[at:at + size])
                worst = max(worst, d.ratio if d.ok else np.inf)
    line(worst <= 1, "batch 1..8", f"with and without more padding, {worst:.3f} of tolerance")


def share(path, ready, go, out):
    m = Model(path)
    m.embed([np.arange(101, 140, dtype=np.int32)], 64)
    lib = os.path.realpath(path)
    for row in open("/proc/self/maps"):
        if row.rstrip().endswith(lib) and " r--" in row:
            begin, end = (int(x, 16) for x in row.split()[0].split("-"))
            if end - begin > 50 << 20:
                ctypes.string_at(begin, end - begin)  # every page
    ready.put(1)
    go.wait()
    sums, inside = {}, False
    for row in open("/proc/self/smaps"):
        word = row.split()
        if not word[0].endswith(":"):
            begin, end = (int(x, 16) for x in word[0].split("-"))
            inside = row.rstrip().endswith(lib) and end - begin > 50 << 20
        elif inside and word[0] in ("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"):
            sums[word[0]] = sums.get(word[0], 0) + int(word[1]) / 1024
    out.put(sums)
    ready.put(1)
    out.close()
    out.join_thread()
    m.close()


def two_processes(path):
    spawn = multiprocessing.get_context("spawn")
    ready, go, out = spawn.Queue(), spawn.Event(), spawn.Queue()
    both = [spawn.Process(target=share, args=(path, ready, go, out)) for _ in range(2)]
    for p in both:
        p.start()
    for _ in both:
        ready.get(timeout=120)
    go.set()
    for sums in [out.get(timeout=120) for _ in both]:
        private = sums["Private_Clean:"] + sums["Private_Dirty:"]
        shared = private < 0.02 * sums["Rss:"] and sums["Pss:"] < 0.55 * sums["Rss:"]
        line(shared and sums["Rss:"] > 50, "two together",
             f"{sums['Rss:']:.0f} MiB mapped, share {sums['Pss:']:.0f} MiB, private {private:.1f} MiB")
    for p in both:
        p.join()


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    tenon, folder, cc = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3]
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        print(f"{folder} has no model; skipped")
        sys.exit(77)
    golds = golden.load(os.path.join(PARITY, "minilm_goldens.safetensors"))
    expected = golds["embedding"]
    sentences = open(os.path.join(PARITY, "minilm_sentences.txt"), encoding="utf-8").read().splitlines()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "libminilm.so")
        rc, _, err = golden.run(tenon, ["compile", folder, "-o", path])
        if rc:
            sys.exit(err)
        program(tmp, cc, sentences, expected)
        m = Model(path)
        token_ids(m, sentences, golds)
        batches(m, sentences, expected)
        m.close()
        best = min(Model(path).seconds for _ in range(5))
        line(best < LOAD_SECONDS, "load", f"{best * 1e3:.1f} ms")
        two_processes(path)
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
