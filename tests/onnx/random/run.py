#!/usr/bin/env python3
"""Random ONNX graphs (graphs.py) through ONNX Runtime, the unoptimised graph on the reference backend, and the optimised
one on the CPU: all three must agree. Every second graph has symbolic input sizes. What the graphs try is the idea of
NNSmith (Liu et al. 2023): valid graphs over many ops, judged by several implementations.

ONNX Runtime runs with its optimisations off. Tolerance of a float output: 1e-4 x max(1, rms) + 1e-3 |expected|; all
other types are exact.

  run.py TENON [--first SEED] [--count N] [--jobs N] [--keep DIR]      (a failing seed's folder is left in DIR)
"""
import argparse, collections, concurrent.futures, json, os, pathlib, shutil, subprocess, sys, tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
SIDES = ("O0,ref", "O3,cpu")


def write(seed, folder):
    """The folder of a seed: model, inputs, what ONNX Runtime gives. Gives the outputs' rms by name and the ops."""
    import numpy as np, onnx, onnxruntime as ort
    from onnx import numpy_helper
    import graphs
    model, feeds = graphs.make(seed)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    wanted = ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    for value, array in zip(model.graph.output, wanted):
        del value.type.tensor_type.shape.dim[:]
        for axis in range(array.ndim):
            value.type.tensor_type.shape.dim.add().dim_param = f"{value.name}_{axis}"
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for kind, arrays in (("input", [feeds[i.name] for i in model.graph.input]), ("output", wanted)):
        for i, array in enumerate(arrays):
            (data / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(array)).SerializeToString())
    rms = {o.name: float(np.sqrt(np.mean(np.square(w)))) if w.dtype.kind == "f" and w.size else None
           for o, w in zip(model.graph.output, wanted)}
    return rms, {n.op_type for n in model.graph.node}


def judge(tenon, folder, rms, side):
    """Words of what is wrong; "" when nothing is."""
    command = [tenon, "verify", f"{folder}/model.onnx@{side}", str(folder / "test_data_set_0"), "--rtol", "1e-3",
               "--atol", "1e-4", "--json", "--threads", "2"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, errors="replace")
    except subprocess.TimeoutExpired:
        return "timeout"
    words = " ".join(done.stderr.split())
    try:
        rows = json.loads(done.stdout)["values"]
    except (ValueError, KeyError):
        rows = []
    if words or done.returncode not in (0, 1) or not rows:
        return f"exit status {done.returncode}: {words[:400]}"
    bad = []
    for row in rows:
        if row["ok"]:
            continue
        scale = rms.get(row["name"].split(".", 1)[1])
        if "max_abs" in row and scale is not None and row["max_abs"] <= 1e-4 * max(1, scale):
            continue
        bad.append(row["name"] + (f": {row['a']} for {row['b']} at {row['index']}" if "a" in row else f": {row['type_a']} for {row['type_b']}"))
    return "; ".join(bad)


def run_seed(tenon, seed, scratch):
    folder = scratch / str(seed)
    try:
        rms, ops = write(seed, folder)
    except Exception as e:  # the generator made something that ONNX Runtime refuses: a fault of this test
        return seed, {"generator": str(e)[:300]}, set()
    return seed, {side: judge(tenon, folder, rms, side) for side in SIDES}, ops


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--keep")
    args = p.parse_args()
    try:
        import onnx, onnxruntime
    except ImportError as e:
        print(f"SKIP: {e}; tools/setup/requirements.txt has the packages")
        return 77
    failed, ops = 0, collections.Counter()
    with tempfile.TemporaryDirectory() as temporary, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        scratch = pathlib.Path(temporary)
        jobs = [pool.submit(run_seed, args.tenon, s, scratch) for s in range(args.first, args.first + args.count)]
        for job in concurrent.futures.as_completed(jobs):
            seed, words, used = job.result()
            ops.update(used)
            bad = {side: w for side, w in words.items() if w}
            if bad:
                failed += 1
                print(f"seed {seed}: " + " | ".join(f"{side}: {w}" for side, w in bad.items()), flush=True)
                if args.keep:
                    shutil.copytree(scratch / str(seed), pathlib.Path(args.keep) / str(seed), dirs_exist_ok=True)
            shutil.rmtree(scratch / str(seed), ignore_errors=True)
    print(f"seeds {args.first} to {args.first + args.count - 1}: {args.count - failed} of {args.count} agree; "
          f"{len(ops)} ops, the rarest in {min(ops.values(), default=0)} graphs (onnx {onnx.__version__}, "
          f"onnxruntime {onnxruntime.__version__})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
