#!/usr/bin/env python3
"""The node cases of the onnx package through tenon.

Every case (a model of one op, inputs, expected outputs made by NumPy) is run by `tenon verify MODEL DATA` with the
tolerance of the package's own runner (rtol 1e-3, atol 1e-7). A case whose structure depends on an input - axes, a
shape, a number of repeats given as a graph input - is tried once more with its small integer inputs fixed to the
values of the case (--fix), as a person who compiles it ahead of time would; the summary counts those.

Outcomes: pass, refused (tenon said before running that it cannot), wrong (the run gave other numbers), broken (a
crash, a timeout, an error at run time). allowed.txt names the cases that may be refused, with the reason; a case
that passes but is named there fails the test, so the list can only shrink. Wrong and broken are never allowed,
except for the reason "random": the expected values come from NumPy's generator.

  nodes.py TENON [--only REGEX] [--symbolic first|all] [--how O0,ref] [--jobs N] [--list] [--keep DIR]
"""
import argparse, collections, concurrent.futures, json, os, pathlib, re, subprocess, sys, tempfile, warnings

HERE = pathlib.Path(__file__).parent
# As the package's runner: two units in the last place for bfloat16. Transforms differ by rounding near zero.
def tolerance(model):
    import onnx
    graph = onnx.load(str(model).split("@")[0], load_external_data=False).graph
    wide = any(o.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 for o in graph.output)
    transform = any(n.op_type in ("DFT", "STFT") for n in graph.node)
    return ["--rtol", str(2 ** -6) if wide else "1e-3", "--atol", "1e-5" if transform else "1e-7"]


# Ops of transformer and vision exports, whose cases also run with symbolic sizes.
SYMBOLIC_OPS = """Abs Add And ArgMax ArgMin Attention AveragePool BatchNormalization Cast Ceil Clip Concat Constant
ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp
Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool Greater GreaterOrEqual
GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax MatMul MatMulInteger Max MaxPool Min Mod Mul Neg NonZero Not Or PRelu Pad Pow
QuantizeLinear RMSNormalization Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape
Resize RotaryEmbedding Round ScatterElements ScatterND Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt
Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor""".split()


def message(value):
    """A value of a case as protobuf: arrays become tensors, lists sequences."""
    import onnx, onnx.numpy_helper
    if isinstance(value, (onnx.TensorProto, onnx.SequenceProto)):
        return value
    if isinstance(value, list):
        return onnx.numpy_helper.from_list(value)
    return onnx.numpy_helper.from_array(value)


def write_case(case, folder):
    """A case as a folder: model.onnx, test_data_set_0/input_0.pb, ..., output_0.pb, ..."""
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for kind, values in zip(("input", "output"), case.data_sets[0]):
        for i, value in enumerate(values):
            if value is not None:
                (data / f"{kind}_{i}.pb").write_bytes(message(value).SerializeToString())


def collect(only, scratch):
    """All cases of the package that match, written below scratch: (name, folder)."""
    warnings.filterwarnings("ignore")
    from onnx.backend.test.loader import load_model_tests
    cases = []
    for case in load_model_tests(kind="node"):
        if only and not re.search(only, case.name):
            continue
        folder = scratch / case.name
        if case.model is None:
            folder = pathlib.Path(case.model_dir)
        else:
            write_case(case, folder)
        cases.append((case.name, folder))
    return sorted(cases)


def symbolic_model(folder, how, out):
    """The model of a case with the first size, or every size, of each input as a symbol of its own."""
    import onnx
    model = onnx.load(folder / "model.onnx")
    for value in model.graph.input:
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        dims = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if how == "all" or axis == 0:
                name = re.sub(r"\W", "_", f"{value.name}_{axis}")
                dim.Clear()
                dim.dim_param = name
    for value in model.graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.Clear()
                dim.dim_param = re.sub(r"\W", "_", f"out_{value.name}_{axis}")
    del model.graph.value_info[:]
    onnx.save(model, out)
    return out


def fixes(folder):
    """--fix options for the integer inputs of a case that have at most 16 elements and rank 0 or 1."""
    import onnx, onnx.numpy_helper
    model = onnx.load(folder / "model.onnx")
    given = {i.name for i in model.graph.initializer}
    options = []
    inputs = [v for v in model.graph.input if v.name not in given]
    for i, value in enumerate(inputs):
        path = folder / "test_data_set_0" / f"input_{i}.pb"
        kind = value.type.tensor_type
        if value.type.WhichOneof("value") != "tensor_type" or not path.exists():
            continue
        structural = kind.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) or (
            value.name in ("scales", "roi", "sizes", "ratio", "training_mode", "t", "r", "trip_count", "cond"))
        if not structural or len(kind.shape.dim) > 1:
            continue
        tensor = onnx.TensorProto()
        tensor.ParseFromString(path.read_bytes())
        array = onnx.numpy_helper.to_array(tensor)
        if array.size <= 16:
            text = ",".join(repr(x) if isinstance(x, float) else str(int(x)) for x in array.reshape(-1).tolist())
            options += ["--fix", f"{value.name}={text}"]
    return options


def lengths(folder):
    """--shapes for what a model leaves open and tenon has to know: how long a sequence is, whether an optional is there."""
    import onnx
    model = onnx.load(folder / "model.onnx")
    given = {i.name for i in model.graph.initializer}
    parts = []
    for i, value in enumerate(v for v in model.graph.input if v.name not in given):
        kind, path = value.type, folder / "test_data_set_0" / f"input_{i}.pb"
        if kind.WhichOneof("value") == "optional_type":
            if not path.exists():
                parts.append(f"{value.name}:none")
                continue
            kind = kind.optional_type.elem_type
        if kind.WhichOneof("value") == "sequence_type" and path.exists():
            sequence = onnx.SequenceProto()
            sequence.ParseFromString(path.read_bytes())
            parts.append(f"{value.name}:[{len(sequence.tensor_values)}]")
            parts += [f"{value.name}[{k}]:" + "x".join(map(str, t.dims)) for k, t in enumerate(sequence.tensor_values)]
        elif kind.WhichOneof("value") == "tensor_type" and not kind.tensor_type.HasField("shape") and path.exists():
            tensor = onnx.TensorProto()
            tensor.ParseFromString(path.read_bytes())
            parts.append(f"{value.name}:" + "x".join(map(str, tensor.dims)))
    return ["--shapes", ",".join(parts)] if parts else []


def shapes(folder):
    """--shapes with all sizes of the case."""
    import onnx
    model = onnx.load(folder / "model.onnx")
    given = {i.name for i in model.graph.initializer}
    parts = []
    for i, value in enumerate(v for v in model.graph.input if v.name not in given):
        if value.type.WhichOneof("value") == "tensor_type":
            tensor = onnx.TensorProto()
            tensor.ParseFromString((folder / "test_data_set_0" / f"input_{i}.pb").read_bytes())
            parts.append(f"{value.name}:" + "x".join(map(str, tensor.dims)))
    return ["--shapes", ",".join(parts)]


def run(tenon, model, data, options):
    """(outcome, words) of one run."""
    command = [tenon, "verify", str(model), str(data), *tolerance(model), "--threads", "1", "--json", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, errors="replace")
    except subprocess.TimeoutExpired:
        return "broken", "timeout"
    words = " ".join(done.stderr.split())
    if done.returncode == 0:
        try:
            rows = json.loads(done.stdout)["values"]
        except (ValueError, KeyError):
            return "broken", "no JSON: " + done.stdout[:200]
        return ("pass", "") if rows else ("broken", "nothing was compared")
    if done.returncode != 1:
        return "broken", f"exit status {done.returncode}: {words[-300:]}"
    try:
        bad = [r for r in json.loads(done.stdout)["values"] if not r["ok"]]
    except (ValueError, KeyError):
        bad = []
    if bad and not words:
        return "wrong", "; ".join(f"{r['name']}[{r['index']}] is {r['a']}, expected {r['b']}" if "a" in r else
                                  f"{r['name']} is {r['type_a']}, expected {r['type_b']}" for r in bad)[:300]
    return "refused", words[:400]


def run_case(tenon, name, folder, args, scratch):
    model, data = folder / "model.onnx", folder / "test_data_set_0"
    options = lengths(folder)
    if args.symbolic:
        model = symbolic_model(folder, args.symbolic, scratch / f"{name}.onnx")
    if args.how:
        model = f"{model}@{args.how}"
    outcome, words = run(tenon, model, data, options)
    fixed = False
    if outcome == "refused":
        more = fixes(folder)
        if more:
            again, again_words = run(tenon, model, data, options + more)
            if again != "refused":
                outcome, words, fixed = again, again_words, True
    if args.symbolic:
        (scratch / f"{name}.onnx").unlink()
    return name, outcome, words, fixed


def read_allowed(path):
    allowed = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(" ")
            allowed[name] = reason.strip()
    return allowed


def ops_of(folder):
    import onnx
    return {n.op_type for n in onnx.load(folder / "model.onnx").graph.node}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("--only")
    p.add_argument("--symbolic", choices=["first", "all"])
    p.add_argument("--how", help="a level and a backend, as in O0,ref")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--keep", help="an empty folder: write the cases there and leave them")
    p.add_argument("--list", action="store_true", help="print every case that did not pass")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            cases = collect(args.only, pathlib.Path(args.keep or scratch))
        except ImportError as e:
            print(f"SKIP: {e}; tools/setup/requirements.txt has the packages")
            return 77
        return run_all(args, cases, pathlib.Path(scratch))


def run_all(args, cases, scratch):
    if args.symbolic:
        wanted = set(SYMBOLIC_OPS)
        cases = [c for c in cases if not c[0].endswith("_expanded") and "_expanded_" not in c[0]
                 and ops_of(c[1]) & wanted]
    allowed = read_allowed(HERE / (f"allowed-{args.symbolic}.txt" if args.symbolic else "allowed.txt"))
    counts, bad, nfixed, seen = collections.Counter(), [], 0, set()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(run_case, args.tenon, n, f, args, scratch) for n, f in cases]
        for job in concurrent.futures.as_completed(jobs):
            name, outcome, words, fixed = job.result()
            counts[outcome] += 1
            nfixed += outcome == "pass" and fixed
            seen.add(name)
            reason = allowed.get(name)
            fine = outcome == "pass" and reason is None
            fine |= outcome == "refused" and reason is not None
            fine |= outcome == "wrong" and (reason or "").startswith("random")
            if not fine:
                note = "passes, but is in the allow-list: take it out" if outcome == "pass" else words
                bad.append(f"{name}: {outcome}: {note}")
            if args.list and outcome != "pass":
                print(f"{name}: {outcome}: {words}", flush=True)
    if not args.only:
        bad += [f"{name}: in the allow-list, but there is no such case" for name in sorted(allowed.keys() - seen)]
    total = sum(counts.values())
    print(f"{total} cases: {counts['pass']} pass ({100 * counts['pass'] / max(total, 1):.1f} %), {nfixed} of them with fixed "
          f"structural inputs; {counts['refused']} refused, {counts['wrong']} wrong, {counts['broken']} broken")
    if not args.list:
        print("\n".join(sorted(bad)))
    return 1 if bad or not total else 0


if __name__ == "__main__":
    sys.exit(main())
