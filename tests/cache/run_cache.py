#!/usr/bin/env python3
"""Caches of decoders against reference.py: rings past their window, packed keys and values, ragged batches, rope that
depends on the length, a needle at 8192 tokens.

    run_cache.py TENON [NAME...]

Models are made from a seed and compiled to libraries; sessions run through tenon/model.h. Exits 1 if anything is
outside the tolerance (tests/parity/golden.py, and KINDS below)."""
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
sys.dont_write_bytecode = True
import golden  # noqa: E402  (says SKIPPED without numpy)
import library  # noqa: E402
import numpy as np  # noqa: E402
import reference  # noqa: E402

# atol x max(1, rms), rtol, NMSE of logits by the element type of the cache
KINDS = {"f32": (1e-4, 1e-3, 1e-9), "f16": (1e-2, 1e-2, 1e-5), "bf16": (6e-2, 1e-2, 1e-4), "q8_0": (6e-2, 1e-2, 5e-4)}
WINDOW = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 24,
          "max_position_embeddings": 1400}


class Check:
    def __init__(self, tenon):
        self.tenon, self.failures, self.libraries = tenon, 0, {}
        self.folder = tempfile.TemporaryDirectory()
        self.rng = np.random.default_rng(20261122)

    def line(self, what, ok, text=""):
        self.failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {what:46} {text}", flush=True)

    def logits(self, what, x, r, kind="f32"):
        atol, rtol, most = KINDS[kind]
        x, r = np.asarray(x, np.float64), np.asarray(r, np.float64)
        d = np.abs(x - r)
        ratio = (d / (atol * max(1.0, np.sqrt(np.mean(r * r))) + rtol * np.abs(r))).max()
        nmse = np.sum(d * d) / np.sum(r * r)
        self.line(what, bool(np.isfinite(x).all()) and ratio <= 1 and nmse <= most,
                  f"max abs {d.max():.1e}  of tolerance {ratio:.3f}  nmse {nmse:.1e}")

    def model(self, seed=5, kv=None, **changes):
        """The model as a library, and its config and weights."""
        key = repr((seed, kv, changes))
        if key not in self.libraries:
            config, weights = reference.llama(seed, **changes)
            self.libraries[key] = self.build(config, weights, kv), config, weights
        return self.libraries[key]

    def build(self, config, weights, kv=None):
        folder = os.path.join(self.folder.name, f"m{len(os.listdir(self.folder.name))}")
        reference.write(folder, config, weights)
        rc, _, err = golden.run(self.tenon, ["compile", folder, "-o", os.path.join(folder, "libm.so")]
                                + (["--kv-cache", kv] if kv else []))
        if rc:
            raise RuntimeError(f"compile: {err.strip()}")
        return library.Model(os.path.join(folder, "libm.so"))

    def ids(self, *shape):
        return self.rng.integers(1, 96, shape).astype(np.int32)

    def parts(self, what, model, ids, sizes, want, kind="f32", capacity=0):
        """Logits of all tokens, given in parts of these sizes."""
        got, at = [], 0
        with library.Session(model, 1, capacity or len(ids)) as s:
            for n in sizes:
                got.append(s.run("logits", ids=ids[None, at:at + n])["logits"][0])
                at += n
        assert at == len(ids)
        self.logits(what, np.concatenate(got), want, kind)

    # ---- rings
    def window(self):
        """Edges of the window (23, 24, 25 tokens), of the ring (535 rows), and far behind both."""
        model, config, weights = self.model(**WINDOW)
        ids = self.ids(1330)
        want = reference.Llama(config, weights)(ids)
        self.parts("window: parts of 512", model, ids, [512, 512, 306], want)
        self.parts("window: one by one at the edges", model, ids, [20] + [1] * 32 + [480] + [1] * 8 + [512] + [1] * 8
                   + [270], want)
        self.parts("window: a cache without a ring", model, ids[:300], [100, 1, 1, 198], want[:300])
        sizes = []
        while sum(sizes) < len(ids):
            sizes.append(int(min(self.rng.integers(1, 200), len(ids) - sum(sizes))))
        self.parts("window: parts of any size", model, ids, sizes, want)

    def rewind(self):
        model, config, weights = self.model(**WINDOW)
        ids = self.ids(1200)
        want = reference.Llama(config, weights)(ids)
        with library.Session(model, 1, 1400) as s:
            for at in range(0, 1200, 400):
                s.run("logits", ids=ids[None, at:at + 400])
            s.check(s.api.rewind(s.at, 1200 - 512))
            got = s.run("logits", ids=ids[None, 688:1200])["logits"][0]
            self.logits("rewind by 512 tokens", got, want[688:])
            self.line("rewind by 513 is refused", s.api.rewind(s.at, 1200 - 513) != 0
                      and b"sliding window" in s.api.error(s.at), s.api.error(s.at).decode())
            s.check(s.api.rewind(s.at, 0))
            self.logits("rewind to the beginning", s.run("logits", ids=ids[None, :60])["logits"][0], want[:60])

    def call(self):
        model, _, _ = self.model(**WINDOW)
        try:
            with library.Session(model, 1, 1400) as s:
                s.run("logits", ids=self.ids(1, 513))
            self.line("a call of 513 tokens is refused", False)
        except RuntimeError as e:
            self.line("a call of 513 tokens is refused", "S = 513, the limit is 512" in str(e), str(e))

    # ---- element types
    def types(self):
        for changes, name in (({}, "all keys"), (WINDOW, "ring")):
            for kv in ("f16", "bf16", "q8_0"):
                model, config, weights = self.model(kv=kv, **changes)
                n = 700 if changes else 120
                ids = self.ids(n)
                want = reference.Llama(config, weights)(ids)
                self.parts(f"cache in {kv}, {name}", model, ids, [n % 500 - 3, 1, 1, 1] + [500] * (n // 500), want, kv)

    def wrong_type(self):
        config, weights = reference.llama(5, head_dim=20)
        folder = os.path.join(self.folder.name, "odd")
        reference.write(folder, config, weights)
        for kv, words in (("q4_0", "caches of keys and values cannot be 'q4_0': f32, f16, bf16 or q8_0"),
                          ("q8_0", "needs heads of a multiple of 32 features, they have 20")):
            rc, _, err = golden.run(self.tenon, ["compile", folder, "-o", os.path.join(folder, "libm.so"),
                                                 "--kv-cache", kv])
            self.line(f"--kv-cache {kv} is refused", rc == 1 and words in err, err.strip().split("\n")[0])

    # ---- batches
    def ragged(self):
        lengths, steps = [3, 40, 17], 12
        for changes, name in (({}, "all keys"), (WINDOW, "ring")):
            model, config, weights = self.model(**changes)
            grow = [n + 500 for n in lengths] if changes else lengths
            most = max(grow)
            tokens = [self.ids(n + steps) for n in grow]
            want = np.stack([reference.Llama(config, weights)(t)[n - 1:] for t, n in zip(tokens, grow)], 1)
            pads = np.array([most - n for n in grow], np.int32)
            ids = np.stack([np.concatenate([self.ids(p), t]) for p, t in zip(pads, tokens)])
            got, first = [], (most - 1) % 400 + 1
            with library.Session(model, 3, most + steps) as s:
                for at in [0] + list(range(first, most, 400)):
                    end = first if not at else at + 400
                    last = s.run("batch", ids=ids[:, at:end], pads=pads)["logits"]
                got.append(last)
                for i in range(most, most + steps):
                    got.append(s.run("batch", ids=ids[:, i:i + 1], pads=pads)["logits"])
            self.logits(f"three lengths side by side, {name}", np.stack(got), want)

    # ---- rope
    def rope(self):
        most = {"max_position_embeddings": 64}
        factors = {"short_factor": list(1 + 0.05 * np.arange(16)), "long_factor": list(2 + 0.3 * np.arange(16))}
        kinds = {"dynamic": (most, {"factor": 3.0}),
                 "longrope": ({"max_position_embeddings": 256},
                              {"original_max_position_embeddings": 64, **factors})}
        for kind, (top, params) in kinds.items():
            parameters = {"rope_type": kind, "rope_theta": 10000.0, **params}
            model, config, weights = self.model(rope_parameters=parameters, **top)
            ids = self.ids(150)
            for sizes in ([150], [64, 86], [63, 1, 1, 1, 84], [20, 60, 1, 69]):
                r, at, want = reference.Llama(config, weights), 0, []
                for n in sizes:
                    want.append(r(ids[at:at + n]))
                    at += n
                self.parts(f"rope {kind}, parts {sizes}", model, ids, sizes, np.concatenate(want))

    # ---- long inputs
    def needle(self):
        """A token among 8192 that the last one looks for, 5000 places back: in the first layer keys are made of what
        stands one feature further on than in queries, and the embedding of the needle is that of the last token moved
        by one, so that these two match. Only features that turn slowly take part."""
        n, at, last, needle = 8192, 3000, 1, 2
        changes = {"max_position_embeddings": n, "head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1,
                   "sharp": 6.0,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 1e8}}
        config, weights = reference.llama(5, **changes)
        first = "model.layers.0."
        inv, _ = reference.frequencies(config, n)
        slow = np.tile(inv * n < 0.5, 2)[:, None]
        weights[first + "input_layernorm.weight"][:] = 1
        query = weights[first + "self_attn.q_proj.weight"][:64]
        weights[first + "self_attn.k_proj.weight"] = np.roll(query, 1, 1) * slow
        table = weights["model.embed_tokens.weight"]
        table[needle] = np.roll(table[last], 1)
        model = self.build(config, weights)
        ids = np.maximum(self.ids(n), 3)
        ids[-1] = last
        plain = reference.Llama(config, weights)(ids)[-1]
        ids[at] = needle
        want = reference.Llama(config, weights)(ids)
        change = np.abs(want[-1] - plain).max()
        self.line("the needle matters", change > 1, f"changes the last logits by {change:.2f}")
        self.parts("8192 tokens at once", model, ids, [n], want)
        self.parts("8192 tokens in parts", model, ids, [512] * 15 + [500] + [1] * 12, want)

    CHECKS = ("window", "rewind", "call", "types", "wrong_type", "ragged", "rope", "needle")


def main():
    check = Check(sys.argv[1])
    for name in sys.argv[2:] or Check.CHECKS:
        try:
            getattr(check, name)()
        except RuntimeError as e:
            check.line(name, False, str(e))
    print(f"{check.failures} failures")
    sys.exit(check.failures > 0)


if __name__ == "__main__":
    main()
