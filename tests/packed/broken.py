#!/usr/bin/env python3
"""Damaged packed checkpoints, and forms that do not fit their weights: each is refused with one clear error.

    broken.py TENON

A case changes one thing of a checkpoint of models/ (its config or its tensors) or is a .tir file; the words must be in
the one error that tenon prints.
"""
import json
import os
import struct
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit(print("SKIPPED: numpy is not there") or 77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
import golden  # noqa: E402

Q = "model.layers.0.self_attn.q_proj."
CASES = []


def case(base, words, change=None, config=None):
    CASES.append((base, words, change, config))


def drop(name):
    return lambda t: t.pop(name)


def shape(name, *dims):
    """Other dims for the same bytes."""
    return lambda t: t.__setitem__(name, (t[name][0], list(dims), t[name][2]))


def dtype(name, kind):
    return lambda t: t.__setitem__(name, (kind, *t[name][1:]))


def data(name, at, new):
    return lambda t: t.__setitem__(name, (*t[name][:2], t[name][2][:at] + new + t[name][2][at + len(new) :]))


def state(name, **change):
    def apply(t):
        text = json.dumps({**json.loads(t[name][2]), **change}).encode()
        t[name] = ("U8", [len(text)], text)

    return apply


def copy(name, to):
    return lambda t: t.__setitem__(to, t[name])


case("gptq4-g128", ["qweight", "there is no", "qzeros"], drop(Q + "qzeros"))
case("gptq4-g128", ["qweight", "there is no", "scales"], drop(Q + "scales"))
case("gptq4-g128", ["qzeros", "does not fit", "[1, 16]"], shape(Q + "qzeros", 16, 1))
case("gptq4-g128", ["scales", "type"], dtype(Q + "scales", "I16"))
case("gptq4-g128", ["qweight", "matrix of i32"], dtype(Q + "qweight", "F32"))
case("gptq4-g128", ["does not fit"], config={"group_size": 64})
case("gptq4-g128", ["'group_size'", "is 96"], config={"group_size": 96})
case("gptq4-g128", ["'format'", "is marlin"], config={"format": "marlin"})
case("gptq4-g128", ["does not fit"], config={"bits": 8})
case("gptq4-g128", ["packed twice"], lambda t: t.update({Q + "SCB": ("F32", [128], bytes(512)), Q + "weight": ("I8", [128, 128], bytes(16384))}))
case("gptq4-g32-act", ["column 3", "group 9"], data(Q + "g_idx", 12, struct.pack("<i", 9)))
case("gptq4-g32-act", ["group -1"], data(Q + "g_idx", 12, struct.pack("<i", -1)))
case("gptq4-g32-act", ["in group 2", "32 columns"], data(Q + "g_idx", 0, struct.pack("<128i", *[2] * 128)))
case("gptq4-g32-act", ["g_idx", "one i32"], lambda t: t.update({Q + "g_idx": ("I32", [64], bytes(256))}))
case("awq-g64", ["qzeros", "does not fit"], shape(Q + "qzeros", 16, 2))
case("awq-g64", ["'version'", "gemv"], config={"version": "gemv"})
case("awq-g64", ["'zero_point'", "false"], config={"zero_point": False})
case("ct-int4-g128", ["there is no", "weight_shape"], drop(Q + "weight_shape"))
case("ct-int4-g128", ["weight_shape", "-5"], data(Q + "weight_shape", 0, struct.pack("<q", -5)))
case("ct-int4-g128", ["does not hold"], data(Q + "weight_shape", 8, struct.pack("<q", 127)))
case("ct-int4-g128", ["there is no", "weight_scale"], drop(Q + "weight_scale"))
case("ct-int4-g128", ["'format'", "marlin-24"], config={"format": "marlin-24"})
case("ct-int4-g128", ["'transform_config'"], config={"transform_config": {"R1": 1}})
case("ct-int4-row", ["weight_scale", "no scale"], shape(Q + "weight_scale", 64, 2))
case("ct-int4-row-zero", ["weight_zero_point", "does not fit"], shape(Q + "weight_zero_point", 8, 2))
case("ct-int8-row", ["neither"], dtype(Q + "weight", "U8"))
case("ct-nvfp4", ["weight_global_scale"], drop(Q + "weight_global_scale"))
case("ct-nvfp4", ["weight_scale", "does not fit"], shape(Q + "weight_scale", 8, 128))
case("bnb-nf4", ["is not text"], dtype(Q + "weight.quant_state.bitsandbytes__nf4", "I8"))
case("bnb-nf4", ["expected"], data(Q + "weight.quant_state.bitsandbytes__nf4", 0, b"}"))
case("bnb-nf4", ["does not hold", "[128, 64]"], state(Q + "weight.quant_state.bitsandbytes__nf4", shape=[128, 64]))
case("bnb-nf4", ["shape"], state(Q + "weight.quant_state.bitsandbytes__nf4", shape=[-128, -128]))
case("bnb-nf4", ["blocksize"], state(Q + "weight.quant_state.bitsandbytes__nf4", blocksize=128))
case("bnb-nf4", ["quant_map", "0.5 for code 3"], data(Q + "weight.quant_map", 12, struct.pack("<f", 0.5)))
case("bnb-nf4-nested", ["nested_absmax"], drop(Q + "weight.nested_absmax"))
case("bnb-nf4-nested", ["nested_offset"], state(Q + "weight.quant_state.bitsandbytes__nf4", nested_offset=None))
case("fp8-tiles", ["weight_scale_inv", "does not fit", "[1, 1]"], lambda t: t.update({Q + "weight_scale_inv": ("F32", [2, 1], bytes(8))}))
case("fp8-tiles", ["'weight_block_size'", "[64, 64]"], config={"weight_block_size": [64, 64]})
case("mxfp4", ["there is no", "weight_scales"], drop(Q + "weight_scales"))
case("mxfp4", ["one byte for each block"], shape(Q + "weight_scales", 4, 128))
case("mxfp4", ["'quant_method'", "quip"], config={"quant_method": "quip"})

FORMS = [
    ('u4_128[32, 128] form "nothing"', 64, ["there is no method 'nothing'"]),
    ('u4_128[32, 128] form ""', 64, ["no method"]),
    ('f32[32] form "gptq"', 64, ["cannot make"]),
    ('q4_0[32, 128] form "gptq"', 64, ["cannot make"]),
    ('q4_0[32, 128] form "int8"', 64, ["cannot make"]),
    ('u4_128[32, 128] form "gptq"', 64, ["needs 3 parts", "has 1"]),
    ('s8_row[32, 128] form "packed"', 64, ["part 0 has 64 bytes", "4096"]),
    ('q4_0[32, 128] form "blocks group=32 zero=8"', 64, ["cannot make"]),
    ('u3_32[32, 128] form "blocks group=32 zero=1"', 64, ["cannot make codes of 3 bits"]),
    ('s4_row[32, 128] form "blocks zero=16"', 64, ["zero is 16", "4 bits"]),
    ('s4_row[32, 128] form "blocks"', 64, ["zero is"]),
    ('s4_row[3, 32] form "blocks turned zero=8"', 64, ["lines of 3 codes of 4 bits"]),
    ('s4_32_f32[32, 128] form "blocks group=0 zero=8"', 64, ["groups of 0"]),
    ('s4_32_f32[32, 128] form "blocks group=48 zero=8"', 64, ["128 columns in groups of 48"]),
    ('s4_32_f32[32, 128] form "blocks group=32 zero=8"', 64, ["needs 2 parts", "has 1"]),
    ('s8_row[32, 128] form "blocks turned zero=128"', 64, ["part 0 has 64 bytes", "4096"]),
    ('mxfp4[32, 128] form "nvfp4"', 64, ["makes nvfp4, not mxfp4"]),
    ('nf4_64[32, 128] form "bnb4 nested"', 64, ["needs 4 parts"]),
    ('f32[8] form "over127"', 64, ["part 0 has 64 bytes", "32"]),
    ('i32[16] form "order group=5"', 64, ["group"]),
    ('i32[16] form "order"', 64, ["groups of at most 16"]),
]  # fmt: skip


def read(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        body = f.read()
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items()}


def write(path, tensors):
    header, at, body = {}, 0, b""
    for name, (kind, dims, raw) in tensors.items():
        header[name] = {"dtype": kind, "shape": dims, "data_offsets": [at, at + len(raw)]}
        at, body = at + len(raw), body + raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + body)


def verdict(tenon, path, words, tmp):
    np.save(os.path.join(tmp, "ids.npy"), np.zeros((1, 3), np.int32))
    given = [] if path.endswith(".tir") else ["--input", f"ids={tmp}/ids.npy"]
    entry = "f" if path.endswith(".tir") else "logits"
    rc, _, err = golden.run(tenon, ["run", path, "--backend", "ref", "--entry", entry, "--output-dir", tmp, *given])
    errors = [line for line in err.splitlines() if "error: " in line]
    if rc != 1:
        return f"exit status {rc}: {err[-300:]}"
    if len(errors) != 1 or not all(w in errors[0] for w in words):
        return f"wanted one error with {words}: {errors}"
    return None


def checkpoint(tenon, base, words, change, config, tmp):
    source = os.path.join(HERE, "models", base)
    tensors = read(os.path.join(source, "model.safetensors"))
    if change:
        change(tensors)
    with open(os.path.join(source, "config.json")) as f:
        text = json.load(f)
    text["quantization_config"].update(config or {})
    with open(os.path.join(tmp, "config.json"), "w") as f:
        json.dump(text, f)
    write(os.path.join(tmp, "model.safetensors"), tensors)
    return verdict(tenon, tmp, words, tmp)


def form(tenon, declared, size, words, tmp):
    path = os.path.join(tmp, "form.tir")
    kind = declared[: declared.index(" ")] + " " + declared[declared.index(" ") + 1 : declared.index("form")].strip()
    kind = kind.strip()
    result = kind if kind.startswith(("f32", "i32")) else "f32" + kind[kind.index("[") :]
    body = "  return @w" if result == kind else f"  %r = dequant @w : {result}\n    return %r"
    with open(path, "w") as f:
        f.write(f'module @m {{\n  weight @w : {declared} = "w" + 0x0 : {size:#x}\n  func @f() -> {result} {{\n  {body}\n  }}\n}}\n')
    with open(os.path.join(tmp, "w"), "wb") as f:
        f.write(bytes(size))
    return verdict(tenon, path, words, tmp)


def main():
    failures = 0
    for i, (base, words, change, config) in enumerate(CASES):
        with tempfile.TemporaryDirectory() as tmp:
            why = checkpoint(sys.argv[1], base, words, change, config, tmp)
        failures += why is not None
        print("FAIL" if why else "ok  ", i, base, why or words, flush=True)
    for declared, size, words in FORMS:
        with tempfile.TemporaryDirectory() as tmp:
            why = form(sys.argv[1], declared, size, words, tmp)
        failures += why is not None
        print("FAIL" if why else "ok  ", declared, why or words, flush=True)
    print(f"{len(CASES) + len(FORMS) - failures} passed, {failures} failed")
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
