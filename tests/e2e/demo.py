#!/usr/bin/env python3
"""The demo language model as a library: greedy tokens and streamed text against transformers, generate.c, and the same
tokens for any number of threads, by seed, and after a rewind.

    demo.py TENON FOLDER CC
"""
import ctypes
import filecmp
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = os.path.join(HERE, "..", "parity")
sys.path.insert(0, PARITY)
import golden  # noqa: E402

SKIP_SPECIAL, INVALID = 2, 3
TIE = 1e-3  # logits closer than this may come out in either order


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("threads", ctypes.c_uint32), ("batch", ctypes.c_int64),
                ("capacity", ctypes.c_int64), ("error", ctypes.c_char_p), ("error_size", ctypes.c_uint64)]


class Sampling(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("max_tokens", ctypes.c_uint32), ("temperature", ctypes.c_float),
                ("top_p", ctypes.c_float), ("min_p", ctypes.c_float), ("repetition_penalty", ctypes.c_float),
                ("top_k", ctypes.c_uint32), ("seed", ctypes.c_uint64)]


OnToken = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_char),
                           ctypes.c_uint64)


class Session:
    """demo.h's functions on a session of its own."""

    def __init__(self, path, threads, capacity=0):
        self.lib = ctypes.CDLL(path)
        self.lib.demo_error.restype = ctypes.c_char_p
        self.lib.demo_position.restype = ctypes.c_int64
        self.model, self.s = ctypes.c_void_p(), ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), threads, 1, capacity, None, 0)
        if self.lib.demo_open(None, ctypes.byref(self.model), None, ctypes.c_uint64(0)):
            sys.exit("demo_open failed")
        if self.lib.demo_session_new(self.model, ctypes.byref(options), ctypes.byref(self.s)):
            sys.exit("demo_session_new failed")

    def close(self):
        self.lib.demo_session_free(self.s)
        self.lib.demo_close(self.model)

    def check(self, status):
        if status:
            sys.exit(f"status {status}: {self.lib.demo_error(self.s).decode()}")

    def tokenize(self, text):
        data, ids, n = text.encode(), (ctypes.c_int32 * 512)(), ctypes.c_uint64(512)
        self.check(self.lib.demo_tokenize(self.s, data, ctypes.c_uint64(len(data)), None, ctypes.c_uint64(0),
                                          ctypes.c_uint32(0), ids, None, ctypes.byref(n)))
        return list(ids[:n.value])

    def detokenize(self, ids):
        text, n = ctypes.create_string_buffer(1 << 16), ctypes.c_uint64(1 << 16)
        self.check(self.lib.demo_detokenize(self.s, (ctypes.c_int32 * len(ids))(*ids), ctypes.c_uint64(len(ids)),
                                            ctypes.c_uint32(SKIP_SPECIAL), text, ctypes.byref(n)))
        return text.raw[:n.value]

    def generate(self, ids, count, **how):
        """Tokens, the pieces of text, and the status."""
        tokens, pieces = [], []

        @OnToken
        def each(_, token, text, length):
            tokens.append(token)
            pieces.append(ctypes.string_at(text, length))
            return 0

        o = Sampling(ctypes.sizeof(Sampling), count, **how)
        status = self.lib.demo_generate(self.s, (ctypes.c_int32 * len(ids))(*ids), ctypes.c_uint64(len(ids)),
                                        ctypes.byref(o), each, None)
        return tokens, pieces, status


failures = 0


def line(ok, what, text):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what:12} {text}", flush=True)


def greedy(path, golds, prompts):
    """Each prompt on its own session and number of threads; then again after going back to the start."""
    for i, prompt in enumerate(prompts):
        s = Session(path, i + 1)
        ids, want = s.tokenize(prompt), golds[f"{i}.tokens"].tolist()
        line(ids == golds[f"{i}.ids"].tolist(), f"ids {i}", f"{len(ids)} ids")
        tokens, pieces, status = s.generate(ids, len(want))
        same = next((k for k in range(len(want)) if k >= len(tokens) or tokens[k] != want[k]), len(want))
        tie = same < len(want) and float(golds[f"{i}.gaps"][same]) < TIE
        line(status == 0 and (same == len(want) or tie), f"greedy {i}",
             f"{same} of {len(want)} tokens with {i + 1} threads")
        whole = s.detokenize(ids + tokens)[len(s.detokenize(ids)):]
        for piece in pieces:
            piece.decode()  # raises if it ends inside a character
        line(b"".join(pieces) == whole, f"text {i}", f"{len(whole)} bytes in {len(pieces)} pieces")
        for back, rest in ((0, ids), (3, ids[3:])):
            s.check(s.lib.demo_rewind(s.s, ctypes.c_int64(back)))
            line(s.generate(rest, len(want))[0] == tokens, f"again {i}", f"from position {back}")
        s.close()


def sampled(path, prompt):
    rows = []
    for threads, seed in ((1, 7), (3, 7), (2, 8)):
        s = Session(path, threads)
        rows.append(s.generate(s.tokenize(prompt), 40, temperature=0.9, top_p=0.95, min_p=0.02,
                               repetition_penalty=1.1, top_k=50, seed=seed)[0])
        s.close()
    line(rows[0] == rows[1] and rows[0] != rows[2], "seeds", "the same seed gives the same tokens, another others")


def capacity(path, prompt):
    s = Session(path, 2, capacity=24)
    ids = s.tokenize(prompt)
    tokens, _, status = s.generate(ids, 100)
    room = 24 - len(ids) + 1
    line(status == 0 and len(tokens) == room and s.lib.demo_position(s.s) == 24, "capacity",
         f"{len(tokens)} tokens fill it")
    _, _, status = s.generate([1], 1)
    line(status == INVALID and b"room for 0 of 24" in s.lib.demo_error(s.s), "full", s.lib.demo_error(s.s).decode())
    s.close()


def program(tmp, cc, prompt):
    source = os.path.join(HERE, "..", "..", "plugins", "examples", "generate", "generate.c")
    subprocess.run([cc, "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{tmp}", source, f"-L{tmp}", "-ldemo",
                    f"-Wl,-rpath,{tmp}", "-o", f"{tmp}/generate"], check=True)
    out = [subprocess.run([f"{tmp}/generate", prompt, "32"], capture_output=True, cwd="/", check=True).stdout
           for _ in range(2)]
    line(out[0] == out[1] and out[0].startswith(prompt.encode()) and len(out[0]) > len(prompt) + 32, "generate.c",
         f"{len(out[0])} bytes, twice the same")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    tenon, folder, cc = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3]
    golds = golden.load(os.path.join(PARITY, "demo_goldens.safetensors"))
    prompts = open(os.path.join(PARITY, "demo_prompts.txt"), encoding="utf-8").read().splitlines()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "libdemo.so")
        rc, _, err = golden.run(tenon, ["compile", folder, "-o", path])
        if rc:
            sys.exit(err)
        os.mkdir(os.path.join(tmp, "again"))
        golden.run(tenon, ["compile", folder, "-o", os.path.join(tmp, "again", "libdemo.so")])
        for name in ("libdemo.so", "demo.h"):
            same = filecmp.cmp(os.path.join(tmp, name), os.path.join(tmp, "again", name), shallow=False)
            line(same, name, "the same bytes twice")
        greedy(path, golds, prompts)
        sampled(path, prompts[0])
        capacity(path, prompts[0])
        program(tmp, cc, prompts[0])
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
