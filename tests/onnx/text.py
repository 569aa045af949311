#!/usr/bin/env python3
"""Ops on tensors of strings - StringConcat, StringSplit, StringNormalizer, Equal, LabelEncoder - on random strings in
several scripts, against ONNX Runtime (StringSplit: the onnx package's reference), on the reference backend and the CPU.

  text.py TENON [--count N]
"""
import argparse, pathlib, random, subprocess, sys, tempfile

LETTERS = ["abcXYZ", "äöÜß", "ДжЯ", "αΩ", "漢字", "🙂", " ", "  ", ",", "ab", "-"]


def words(r, n):
    return ["".join(r.choice(LETTERS) for _ in range(r.randint(0, 6))) for _ in range(n)]


def strings(r, shape):
    import numpy as np
    return np.array(words(r, int(np.prod(shape))), object).reshape(shape)


def case(r, h, T):
    """(node, inputs, kinds of the outputs, domain)"""
    import numpy as np
    kind = r.randrange(6)
    if kind == 0:
        a = [r.randint(1, 3) for _ in range(r.randint(0, 3))]
        b = [d if r.random() < 0.6 else 1 for d in a[r.randint(0, len(a)):]]
        return h.make_node("StringConcat", ["a", "b"], ["y"]), [strings(r, a), strings(r, b)], [T.STRING]
    if kind == 1:
        more = {"delimiter": r.choice([",", " ", "ab", "-", "ä"])} if r.random() < 0.7 else {}
        if r.random() < 0.5:
            more["maxsplit"] = r.randint(1, 3)
        x = strings(r, [r.randint(1, 3) for _ in range(r.randint(1, 2))])
        return h.make_node("StringSplit", ["a"], ["y", "z"], **more), [x], [T.STRING, T.INT64]
    if kind == 2:
        x = np.array(r.choices(["monday", "Monday", "äpfel", "ÄPFEL", "Дом", "tuesday", ""], k=r.randint(1, 6)), object)
        x = x[None] if r.random() < 0.5 else x
        stop = r.sample(["monday", "äpfel", "tuesday", "Дом", "ÄPFEL"], r.randint(0, 3))
        more = {"stopwords": stop} if stop else {}
        return h.make_node("StringNormalizer", ["a"], ["y"], case_change_action=r.choice(["NONE", "LOWER", "UPPER"]),
                           is_case_sensitive=r.randint(0, 1), locale="C.UTF-8", **more), [x], [T.STRING]
    if kind == 3:
        x = strings(r, [r.randint(1, 4), r.randint(1, 4)])
        y = x.copy() if r.random() < 0.7 else x[:1].copy()
        y.flat[r.randrange(y.size)] += "!"
        return h.make_node("Equal", ["a", "b"], ["y"]), [x, y], [T.BOOL]
    keys = words(r, 4)
    keys = list(dict.fromkeys(keys))
    x = np.array(r.choices(keys + ["none of them"], k=6), object).reshape(2, 3)
    if kind == 4:
        return h.make_node("LabelEncoder", ["a"], ["y"], domain="ai.onnx.ml", keys_strings=keys,
                           values_int64s=list(range(10, 10 + len(keys))), default_int64=-7), [x], [T.INT64]
    return h.make_node("LabelEncoder", ["a"], ["y"], domain="ai.onnx.ml", keys_strings=keys, values_strings=keys[::-1],
                       default_string="other"), [x], [T.STRING]


def write(seed, folder):
    import numpy as np, onnx, onnxruntime as ort
    from onnx import TensorProto as T, helper as h, numpy_helper
    r = random.Random(seed)
    node, inputs, kinds = case(r, h, T)
    infos = [h.make_tensor_value_info(n, T.STRING, [f"{n}{i}" for i in range(x.ndim)] if seed % 2 and node.op_type != "StringNormalizer" else x.shape)
             for n, x in zip(node.input, inputs)]
    graph = h.make_graph([node], "text", infos, [h.make_tensor_value_info(n, k, None) for n, k in zip(node.output, kinds)])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 20), h.make_opsetid("ai.onnx.ml", 4)], ir_version=10)
    feeds = dict(zip(node.input, inputs))
    if node.op_type == "StringSplit":  # ONNX Runtime counts no piece in an empty text, the specification's NumPy code one
        from onnx.reference import ReferenceEvaluator
        wanted = ReferenceEvaluator(model).run(None, feeds)
    else:
        wanted = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for kind, arrays in (("input", inputs), ("output", wanted)):
        for i, array in enumerate(arrays):
            array = np.asarray(array)
            if array.dtype.kind in "OU":
                array = np.array([str(s).encode() for s in array.reshape(-1)], object).reshape(array.shape)
            (folder / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    return node.op_type


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("--count", type=int, default=60)
    args = p.parse_args()
    try:
        import onnx, onnxruntime
    except ImportError as e:
        print(f"SKIP: {e}; tools/setup/requirements.txt has the packages")
        return 77
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(args.count):
            folder = pathlib.Path(scratch) / str(seed)
            op = write(seed, folder)
            for how in ("O0,ref", "O3,cpu"):
                done = subprocess.run([args.tenon, "verify", f"{folder}/model.onnx@{how}", str(folder), "--atol", "0", "--rtol", "0"],
                                      capture_output=True, text=True, errors="replace")
                if done.returncode:
                    failed += 1
                    print(f"seed {seed} ({op}, {how}): {done.stderr.strip()} {done.stdout.strip()}")
    print(f"{args.count} graphs, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
