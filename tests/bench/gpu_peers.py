"""gpu_peers.py NAME...: what PyTorch reaches on this GPU in the cases of gpu.sh, one JSON line each.

NAME: copy (bytes per second of a copy on the device), matmul (bf16, cuBLAS), attention (bf16, causal, FlashAttention), decode (one
token of a 1.1B LLaMA in bf16, captured as one CUDA graph). `--device cpu --small` runs the same code on tiny sizes, to see that it
works where no GPU is."""
import argparse
import json
import statistics
import time

import torch
from torch.nn import functional as F


class Timer:
    """Median seconds of a call. Ten calls are queued at a time, as gpu.sh does for our own kernels."""

    def __init__(self, device, runs):
        self.device, self.runs = device, runs

    def __call__(self, call):
        group = 10 if self.device == "cuda" else 1
        seconds = []
        for i in range(self.runs + 2):
            self.wait()
            begin = time.perf_counter()
            for _ in range(group):
                call()
            self.wait()
            seconds.append((time.perf_counter() - begin) / group)
        return statistics.median(seconds[2:])

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def say(name, seconds, **more):
    print(json.dumps({"name": name, "seconds": seconds, **more}), flush=True)


def copy(o, timer):
    n = 1 << (20 if o.small else 30)
    a = torch.ones(n, dtype=torch.uint8, device=o.device)
    b = torch.empty_like(a)
    seconds = timer(lambda: b.copy_(a))
    say("copy", seconds, gbs=2 * n / seconds * 1e-9)


def matmul(o, timer):
    for n in [64] if o.small else [4096, 8192]:
        a, b = (torch.rand(n, n, device=o.device).sub_(0.5).bfloat16() for _ in range(2))
        seconds = timer(lambda: a @ b.t())
        say(f"matmul {n}", seconds, tflops=2 * n**3 / seconds * 1e-12)


def attention(o, timer):
    heads, dim = (2, 16) if o.small else (32, 128)
    for s in [64] if o.small else [2048, 8192]:
        q, k, v = (torch.randn(1, heads, s, dim, device=o.device).bfloat16() for _ in range(3))
        seconds = timer(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        say(f"attention {s}", seconds, tflops=2 * heads * s * s * dim / seconds * 1e-12)


class Llama:
    """One step of decoding, batch 1, over a KV cache of `context` tokens that is full up to the last one."""

    def __init__(self, o):
        self.h, self.heads, self.kv, self.dim, self.ff, layers, vocab = (
            (64, 4, 2, 16, 128, 2, 256) if o.small else (2048, 32, 4, 64, 5632, 22, 32000)
        )
        self.context = 32 if o.small else 512
        new = lambda *shape: (torch.randn(*shape, device=o.device) * 0.02).bfloat16()
        self.layers = [
            {
                "qkv": new((self.heads + 2 * self.kv) * self.dim, self.h),
                "o": new(self.h, self.heads * self.dim),
                "up": new(2 * self.ff, self.h),
                "down": new(self.h, self.ff),
                "n1": new(self.h),
                "n2": new(self.h),
                "k": new(1, self.kv, self.context, self.dim),
                "v": new(1, self.kv, self.context, self.dim),
            }
            for _ in range(layers)
        ]
        self.norm, self.head, self.embed = new(self.h), new(vocab, self.h), new(vocab, self.h)
        self.id = torch.zeros(1, dtype=torch.long, device=o.device)
        self.cos, self.sin = new(self.dim // 2), new(self.dim // 2)
        self.bytes = 2 * (self.head.numel() + sum(t.numel() for l in self.layers for t in l.values()))

    def rope(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1)

    def layer(self, x, w):
        y = F.rms_norm(x, (self.h,), w["n1"]) @ w["qkv"].t()
        q, k, v = y.view(1, -1, self.dim).split([self.heads, self.kv, self.kv], 1)
        w["k"][:, :, -1], w["v"][:, :, -1] = self.rope(k), v
        q = self.rope(q).unsqueeze(2)
        a = F.scaled_dot_product_attention(q, w["k"], w["v"], enable_gqa=True)
        x = x + a.reshape(1, -1) @ w["o"].t()
        g, u = (F.rms_norm(x, (self.h,), w["n2"]) @ w["up"].t()).chunk(2, -1)
        return x + (F.silu(g) * u) @ w["down"].t()

    def step(self):
        x = F.embedding(self.id, self.embed)
        for w in self.layers:
            x = self.layer(x, w)
        self.id.copy_((F.rms_norm(x, (self.h,), self.norm) @ self.head.t()).argmax(-1))


def decode(o, timer):
    with torch.inference_mode():
        model = Llama(o)
        call = model.step
        if o.device == "cuda":
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    model.step()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                model.step()
            call = graph.replay
        seconds = timer(call)
    say("decode", seconds, gbs=model.bytes / seconds * 1e-9, tokens=1 / seconds)


def main():
    cases = {"copy": copy, "matmul": matmul, "attention": attention, "decode": decode}
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", default=list(cases))
    p.add_argument("--device", default="cuda")
    p.add_argument("--small", action="store_true")
    p.add_argument("--runs", type=int, default=20)
    o = p.parse_args()
    for name in o.names:
        cases[name](o, Timer(o.device, o.runs))


main()
