#!/usr/bin/env python3
"""ai.onnx.ml, and recurrent nets with every attribute, against ONNX Runtime.

One model of one node per case, with seeded inputs; ONNX Runtime's outputs are the expected ones. Cases of which
runtimes make different things are refused, and that is checked, too.

  ml.py TENON [--only REGEX]
"""
import argparse, pathlib, re, subprocess, sys, tempfile

try:
    import numpy as np
    import onnx
    import onnx.helper as oh
    import onnx.numpy_helper
    import onnxruntime
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

rng = np.random.default_rng(20261122)
CASES = []  # name, node, inputs, how many outputs, opset; expected words of a refusal or None


def case(name, op, attrs, ins, nout=1, domain="ai.onnx.ml", version=3, refused=None):
    names = [f"i{i}" if v is not None else "" for i, v in enumerate(ins)]
    node = oh.make_node(op, names, [f"o{i}" for i in range(nout)], domain=domain, **attrs)
    CASES.append((name, node, {n: v for n, v in zip(names, ins) if n}, nout, (domain, version), refused))


def features():
    x, whole = rng.normal(size=(5, 4)).astype(np.float32), rng.integers(-2, 3, (5, 4))
    holes = x.copy()
    holes[1, 2], holes[3, 0], holes[2] = np.nan, 7, 0
    zero = np.where(np.isnan(holes), 0, holes).astype(np.float32)
    for norm in ("MAX", "L1", "L2"):
        case(f"normalizer_{norm}", "Normalizer", {"norm": norm}, [zero])
        case(f"normalizer_{norm}_i64", "Normalizer", {"norm": norm}, [whole])
    case("scaler", "Scaler", {"offset": [0.1, 0.2, 0.3, 0.4], "scale": [1.0, 2.0, 3.0, 0.5]}, [x])
    case("scaler_f64", "Scaler", {"offset": [0.1], "scale": [2.0]}, [x.astype(np.float64)])
    nan = float("nan")
    case("imputer_nan", "Imputer", {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0], "replaced_value_float": nan}, [holes])
    case("imputer_value", "Imputer", {"imputed_value_floats": [9.0], "replaced_value_float": 7.0}, [holes])
    case("imputer_i64", "Imputer", {"imputed_value_int64s": [9], "replaced_value_int64": -2}, [whole])
    case("binarizer", "Binarizer", {"threshold": 0.1}, [x])
    case("one_hot_encoder", "OneHotEncoder", {"cats_int64s": [-2, -1, 0, 1, 2], "zeros": 1}, [whole])
    case("feature_vectorizer", "FeatureVectorizer", {"inputdimensions": [4, 4]}, [x, holes], version=1)
    case("array_feature_extractor", "ArrayFeatureExtractor", {}, [x, np.array([[1, 3]])])
    labels = {"keys_int64s": [-2, 1], "values_int64s": [5, 6], "default_int64": -9}
    case("label_encoder_i64", "LabelEncoder", labels, [whole], version=2)
    case("label_encoder_f32", "LabelEncoder", {"keys_int64s": [-2, 1], "values_floats": [5.0, 6.0]}, [whole], version=2)


def linear():
    x = np.abs(rng.normal(size=(5, 4))).astype(np.float32) / 8
    two, three = rng.normal(size=8).tolist(), rng.normal(size=12).tolist()
    for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"):
        attrs = {"coefficients": [abs(v) / 4 for v in two], "intercepts": [0.2, 0.4], "post_transform": post}
        case(f"linear_regressor_{post}", "LinearRegressor", {"targets": 2, **attrs}, [x], version=1)
        attrs = {"coefficients": [abs(v) / 4 for v in three], "intercepts": [0.2, 0.4, 0.1], "post_transform": post}
        case(f"linear_classifier_3_{post}", "LinearClassifier", {"classlabels_ints": [3, 5, 9], **attrs}, [x], 2, version=1)
        attrs = {"coefficients": two[:4], "intercepts": [0.2], "classlabels_ints": [3, 5], "post_transform": post}
        refused = None if post in ("NONE", "LOGISTIC") else "post_transform"
        case(f"linear_classifier_2_{post}", "LinearClassifier", attrs, [x], 2, version=1, refused=refused)


def vectors():
    x, support = rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=(7, 3))
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        attrs = {"kernel_type": kernel, "kernel_params": [0.4, 0.3, 3.0], "support_vectors": support.ravel().tolist()}
        reg = {"coefficients": rng.normal(size=7).tolist(), "n_supports": 7, "rho": [0.3]}
        case(f"svm_regressor_{kernel}", "SVMRegressor", {**attrs, **reg}, [x], version=1)
        more = {"coefficients": rng.normal(size=14).tolist(), "vectors_per_class": [2, 3, 2], "rho": [0.1, -0.2, 0.3]}
        case(f"svm_classifier_3_{kernel}", "SVMClassifier", {**attrs, **more, "classlabels_ints": [4, 1, 7]}, [x], 2, version=1)
        more = {"coefficients": rng.normal(size=7).tolist(), "vectors_per_class": [3, 4], "rho": [0.1]}
        case(f"svm_classifier_2_{kernel}", "SVMClassifier", {**attrs, **more, "classlabels_ints": [0, 1]}, [x], 2, version=1)


def trees():
    """Complete trees of depth 3 with random features, thresholds and modes."""
    x = rng.normal(size=(9, 4)).astype(np.float32)
    x[4, 2] = np.nan

    def forest(count, modes, targets, prefix):
        keys = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids", "missing_value_tracks_true")
        lists = {f"nodes_{k}": [] for k in (*keys, "modes", "values")}
        leaf = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
        for tree in range(count):
            for i in range(15):
                inner = i < 7
                row = (tree, i, int(rng.integers(4)) if inner else 0, 2 * i + 1 if inner else 0, 2 * i + 2 if inner else 0, int(rng.integers(2)) if inner else 0)
                for k, v in zip(keys, row):
                    lists[f"nodes_{k}"].append(v)
                lists["nodes_modes"].append(f"BRANCH_{modes[(tree + i) % len(modes)]}" if inner else "LEAF")
                lists["nodes_values"].append(float(rng.normal()) if inner else 0.0)
                for t in range(targets) if not inner else ():
                    for k, v in zip(leaf, (tree, i, t, float(rng.normal()))):
                        leaf[k].append(v)
        return {**lists, **{f"{prefix}_{k}": v for k, v in leaf.items()}}

    for modes in (["LEQ"], ["LT"], ["GTE"], ["GT"], ["EQ"], ["NEQ"], ["LEQ", "GT", "EQ", "LT"]):
        attrs = {**forest(4, modes, 2, "target"), "n_targets": 2, "base_values": [0.5, -0.5]}
        case(f"tree_regressor_{'_'.join(modes)}", "TreeEnsembleRegressor", attrs, [x], version=1)
    for how in ("SUM", "AVERAGE", "MIN", "MAX"):
        attrs = {**forest(5, ["LEQ"], 1, "target"), "n_targets": 1, "aggregate_function": how}
        case(f"tree_regressor_{how}", "TreeEnsembleRegressor", attrs, [x], version=1)
    for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"):
        attrs = {**forest(4, ["LEQ"], 3, "class"), "classlabels_int64s": [2, 5, 8], "post_transform": post}
        case(f"tree_classifier_3_{post}", "TreeEnsembleClassifier", attrs, [x], 2, version=1)
    for positive in (False, True):
        attrs = {**forest(4, ["LT"], 1, "class"), "classlabels_int64s": [0, 1], "post_transform": "NONE"}
        attrs["class_ids"] = [1] * len(attrs["class_ids"])
        if positive:
            attrs["class_weights"] = [abs(w) / 8 for w in attrs["class_weights"]]
        case(f"tree_classifier_2_{'positive' if positive else 'mixed'}", "TreeEnsembleClassifier", attrs, [x], 2, version=1)


def recurrent():
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
    for op, g in gates.items():
        for direction in ("forward", "reverse", "bidirectional"):
            for h in (1, 7, 16, 33):
                d, s, b = 2 if direction == "bidirectional" else 1, 6, 5
                f = lambda *shape: rng.normal(size=shape).astype(np.float32) / 2
                ins = [f(s, b, 3), f(d, g * h, 3), f(d, g * h, h), f(d, 2 * g * h)]
                ins += [np.array([6, 1, 4, 2, 6], np.int32) if h != 7 else None, f(d, b, h)]
                nout = 2
                if op == "LSTM":
                    ins += [f(d, b, h), f(d, 3 * h) if h == 33 else None]
                    nout = 3
                attrs = {"hidden_size": h, "direction": direction}
                if op == "GRU":
                    attrs["linear_before_reset"] = int(h > 7)
                case(f"{op}_{direction}_{h}", op, attrs, ins, nout, "", 14)


def run(tenon, folder, name, node, feeds, nout, opset, refused):
    given = [oh.make_tensor_value_info(k, oh.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()]
    outs = [onnx.ValueInfoProto(name=f"o{i}") for i in range(nout)]
    opsets = [oh.make_opsetid(*opset)] + ([oh.make_opsetid("", 20)] if opset[0] else [])
    model = oh.make_model(oh.make_graph([node], "g", given, outs), opset_imports=opsets, ir_version=9)
    data = folder / name / "data"
    data.mkdir(parents=True)
    path = folder / name / "model.onnx"
    onnx.save(model, path)
    expected = onnxruntime.InferenceSession(str(path)).run(None, feeds)
    for kind, values in (("input", list(feeds.items())), ("output", [(f"o{i}", v) for i, v in enumerate(expected)])):
        for i, (key, v) in enumerate(values):
            (data / f"{kind}_{i}.pb").write_bytes(onnx.numpy_helper.from_array(np.asarray(v), key).SerializeToString())
    done = subprocess.run([tenon, "verify", path, data, "--rtol", "1e-4", "--atol", "1e-5"], capture_output=True, text=True)
    words = done.stderr + done.stdout
    if refused:
        return None if done.returncode == 1 and refused in done.stderr else f"was not refused: {words[:300]}"
    return None if done.returncode == 0 else words[:400]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("tenon")
    args.add_argument("--only", default="")
    args = args.parse_args()
    for make in (features, linear, vectors, trees, recurrent):
        make()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for c in CASES:
            if re.search(args.only, c[0]):
                wrong = run(args.tenon, pathlib.Path(folder), *c)
                bad += bool(wrong)
                if wrong:
                    print(f"{c[0]}: {wrong}")
    print(f"{len(CASES)} cases, {bad} failed")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
