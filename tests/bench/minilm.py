"""Latency of a sentence encoder in tenon, ONNX Runtime and PyTorch, interleaved.

minilm.py TENON MODEL [--threads 2] [--rounds 15] [--json]
TENON: the binary; the model is compiled to a library first, and run through ctypes like any program would."""
import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("tenon")
parser.add_argument("model")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=15)
parser.add_argument("--json", action="store_true")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import numpy as np
import onnxruntime
import torch
import transformers

torch.set_num_threads(args.threads)


class Tensor(ctypes.Structure):  # tn_tensor of tenon/model.h
    _fields_ = [("data", ctypes.c_void_p), ("dtype", ctypes.c_uint32), ("rank", ctypes.c_uint32), ("shape", ctypes.c_int64 * 8)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("threads", ctypes.c_uint32), ("batch", ctypes.c_int64), ("capacity", ctypes.c_int64)]


API = ("open close name entry_count entry input output meta_count meta_key meta session_new session_free session_reset position "
       "rewind error shapes invoke").split()
DTYPES = {np.dtype("int32"): 8, np.dtype("float32"): 2}  # TN_DT_i32, TN_DT_f32


class Library:
    """A compiled model through the function table of tenon/model.h."""

    def __init__(self, path, entry, threads):
        query = ctypes.CDLL(path).tn_model_query
        query.restype = ctypes.c_void_p
        table = ctypes.cast(query(ctypes.c_uint32(1)) + 8, ctypes.POINTER(ctypes.c_void_p))
        self.fn = {name: ctypes.CFUNCTYPE(ctypes.c_int32)(table[i]) for i, name in enumerate(API)}
        self.fn["name"].restype = None
        model, session = ctypes.c_void_p(), ctypes.c_void_p()
        error = ctypes.create_string_buffer(512)
        if self.fn["open"](None, ctypes.byref(model), error, ctypes.c_uint64(512)):
            sys.exit(error.value.decode())
        options = SessionOptions(ctypes.sizeof(SessionOptions), threads, 8, 0)
        assert self.fn["session_new"](model, ctypes.byref(options), ctypes.byref(session)) == 0
        self.session, self.entry = session, entry

    @staticmethod
    def tensor(a):
        return Tensor(a.ctypes.data, DTYPES[a.dtype], a.ndim, (ctypes.c_int64 * 8)(*a.shape))

    def run(self, inputs, output):
        table = (Tensor * len(inputs))(*map(self.tensor, inputs))
        out = self.tensor(output)
        assert self.fn["invoke"](self.session, ctypes.c_uint32(self.entry), table, ctypes.byref(out)) == 0


class Encoder(torch.nn.Module):
    """Mean pooling and normalisation over the encoder, as sentence-transformers does."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, types):
        h = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        m = mask.unsqueeze(-1).to(h.dtype)
        return torch.nn.functional.normalize((h * m).sum(1) / m.sum(1).clamp(min=1e-9), dim=1)


def main():
    work = pathlib.Path(tempfile.mkdtemp())
    library = work / "libminilm.so"
    subprocess.run([args.tenon, "compile", args.model, "-o", library], check=True, stdout=sys.stderr)
    entries = json.loads(subprocess.run([args.tenon, "inspect", library, "--json"], check=True, capture_output=True).stdout)["entries"]
    names = [e["name"] for e in entries]
    inputs = [i["name"] for i in entries[names.index("embed")]["inputs"]]
    encoder = Encoder(transformers.AutoModel.from_pretrained(args.model, dtype=torch.float32)).eval()
    ids = torch.randint(1000, 20000, (1, 128))
    onnx_path = work / "minilm.onnx"
    axes = {n: {0: "B", 1: "S"} for n in ("ids", "mask", "types")}
    torch.onnx.export(encoder, (ids, torch.ones_like(ids), torch.zeros_like(ids)), onnx_path, input_names=["ids", "mask", "types"],
                      output_names=["embedding"], dynamic_axes=axes, opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    ort = onnxruntime.InferenceSession(onnx_path, options, providers=["CPUExecutionProvider"])
    tenon = Library(str(library), names.index("embed"), args.threads)

    rows = []
    for batch in (1, 8):
        g = np.random.default_rng(batch)
        ids = g.integers(1000, 20000, (batch, 128)).astype(np.int32)
        feed = {"ids": ids, "mask": np.ones_like(ids), "types": np.zeros_like(ids)}
        wide = {k: v.astype(np.int64) for k, v in feed.items()}
        tensors = [torch.from_numpy(wide[k]) for k in ("ids", "mask", "types")]
        out = np.empty((batch, 384), np.float32)

        def run_tenon():
            tenon.run([feed[n] for n in inputs], out)

        def run_ort():
            return ort.run(None, wide)[0]

        def run_torch():
            with torch.inference_mode():
                return encoder(*tensors).numpy()

        engines = {"tenon": run_tenon, "onnxruntime": run_ort, "pytorch": run_torch}
        run_tenon()
        difference = float(np.abs(out - run_torch()).max())
        times = {name: [] for name in engines}
        for i in range(args.rounds + 2):  # the first two rounds warm up
            for name, run in engines.items():
                t = time.perf_counter()
                for _ in range(4 if batch == 1 else 1):
                    run()
                if i >= 2:
                    times[name].append((time.perf_counter() - t) / (4 if batch == 1 else 1) * 1e3)
        row = {"batch": batch, "tokens": 128, "threads": args.threads, "max_abs_difference": difference}
        for name, t in times.items():
            row[name] = {"median_ms": statistics.median(t), "min_ms": min(t), "max_ms": max(t)}
        for name in ("onnxruntime", "pytorch"):
            row[f"tenon/{name}"] = statistics.median(a / b for a, b in zip(times["tenon"], times[name]))
        rows.append(row)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for r in rows:
        print(f"batch {r['batch']} x {r['tokens']} tokens, {r['threads']} threads; max abs difference to PyTorch {r['max_abs_difference']:.1e}")
        for name in ("tenon", "onnxruntime", "pytorch"):
            print(f"  {name:12} {r[name]['median_ms']:8.2f} ms  [{r[name]['min_ms']:.2f} .. {r[name]['max_ms']:.2f}]")
        print(f"  time ratio tenon/onnxruntime {r['tenon/onnxruntime']:.2f}, tenon/pytorch {r['tenon/pytorch']:.2f}")


main()
