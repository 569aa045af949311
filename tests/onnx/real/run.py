#!/usr/bin/env python3
"""Real ONNX models of published packages (tools/fetch-onnx) with real inputs - a photograph, drawn text, a spoken
sentence, a source file - against ONNX Runtime, at its full optimisation: the same outputs within the table for whole
models, 1e-4 x max(1, rms) + 1e-3 |expected|, and the latency of both, interleaved.

  run.py TENON [FOLDER] [--only REGEX] [--bench] [--threads N] [--rounds N]       --bench: also timed
"""
import argparse, json, pathlib, re, statistics, subprocess, sys, tempfile, time, wave

HERE = pathlib.Path(__file__).resolve().parent
SENTENCE = "tenon compiles models"


# ---- inputs ---------------------------------------------------------------------------------------------------
def photo(folder, width, height):
    from PIL import Image
    import numpy as np
    image = Image.open(folder / "photo.jpg").convert("RGB").resize((width, height))
    return np.asarray(image, np.float32)


def text_image(folder, width, height, size):
    from PIL import Image, ImageDraw, ImageFont
    import numpy as np
    image = Image.new("RGB", (width, height), "white")
    font = ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)
    for row in range(max(1, height // (3 * size))):
        ImageDraw.Draw(image).text((8, (height - size) // 3 + 3 * row * size), SENTENCE, "black", font)
    return np.asarray(image, np.float32)


def speech(folder, rate):
    """Mono samples in [-1, 1]; a chord of three tones where the recording is not there."""
    import numpy as np
    path = folder / "speech.wav"
    if not path.exists():
        t = np.arange(rate * 2) / rate
        return (0.2 * (np.sin(440 * t * 6.283) + np.sin(550 * t * 6.283) + np.sin(660 * t * 6.283))).astype(np.float32)
    with wave.open(str(path)) as w:
        samples = np.frombuffer(w.readframes(w.getnframes()), "<i2").astype(np.float32) / 32768
        source = w.getframerate()
    at = np.arange(int(len(samples) * rate / source)) * source / rate
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32)


def chw(image, mean=0.5, std=0.5):
    return ((image / 255 - mean) / std).transpose(2, 0, 1)[None].astype("float32").copy()


def gray(folder, width):
    return (text_image(folder, width, 64, 40).mean(-1)[None, None] / 255).astype("float32")


def wave_input(folder):
    import numpy as np
    x = speech(folder, 16000)
    return {"waveforms": np.stack([x, x[::-1]]), "waveforms_lens": np.array([len(x), len(x) // 2])}


def vad(folder, context=64):
    import numpy as np
    x = speech(folder, 16000)
    windows = x[4000:4000 + 8 * (512 + context)].reshape(8, -1)
    return {"input": windows, "state": np.zeros((2, 8, 128), np.float32), "sr": np.array(16000)}


def vad_sequence(folder):
    import numpy as np
    x = speech(folder, 16000)
    return {"input": x[:20 * 576].reshape(20, 576), "h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}


def magika(folder):
    import numpy as np
    data = pathlib.Path(__file__).read_bytes()[:1024] + pathlib.Path(__file__).read_bytes()[-1024:]
    return {"bytes": np.frombuffer(data, np.uint8).astype(np.int32)[None]}


def tashkeel(folder):
    import numpy as np
    ids = np.array([[5, 9, 12, 7, 3, 22, 30, 1, 14, 8, 2, 19]])
    return {"char_inputs": ids, "diac_inputs": ids % 15, "input_lengths": np.array([ids.shape[1]])}


INPUTS = {
    "ocr4-det": lambda f: {"x": chw(text_image(f, 640, 320, 32))},
    "ocr6-det": lambda f: {"x": chw(text_image(f, 640, 320, 32))},
    "ocr4-rec": lambda f: {"x": chw(text_image(f, 320, 48, 28))},
    "ocr6-rec": lambda f: {"x": chw(text_image(f, 320, 48, 28))},
    "ocr2-cls": lambda f: {"x": chw(text_image(f, 192, 48, 20))},
    "silero-vad": vad,
    "silero-vad-16k": vad,
    "silero-vad-ifless": vad,
    "silero-vad-sequence": vad_sequence,
    "magika": magika,
    "nudenet-320n": lambda f: {"images": chw(photo(f, 320, 320), 0, 1)},
    "basic-pitch": lambda f: {"serving_default_input_2:0": speech(f, 22050).repeat(2)[:43844].reshape(1, -1, 1)[:, :43844]},
    "ddddocr": lambda f: {"input1": gray(f, 300)},
    "ddddocr-det": lambda f: {"images": photo(f, 416, 416).transpose(2, 0, 1)[None].copy()},
    "asr-whisper80": wave_input, "asr-nemo128": wave_input, "asr-kaldi": wave_input, "asr-wespeaker": wave_input,
    "asr-resample": wave_input,
    "piper-nakdimon": lambda f: {"input_1": __import__("numpy").array([[3, 12, 25, 7, 30, 1, 9, 22, 14, 2, 0, 0]], "float32")},
    "piper-tashkeel": tashkeel,
}


# Sizes that a model leaves open and tenon has to know: in ocr2-cls all are -1; in silero-vad they decide ranks.
SHAPES = {"ocr2-cls": "x:Bx3xHxW", "silero-vad": "input:8x576,state:2x8x128", "silero-vad-16k": "input:8x576,state:2x8x128"}
FIX = {"silero-vad": ["sr=16000"]}


def options(name):
    return ([f"--shapes={SHAPES[name]}"] if name in SHAPES else []) + [f"--fix={f}" for f in FIX.get(name, [])]


def feed(session, folder, name):
    """The inputs of a model, in its own types; a basic-pitch window is padded with silence."""
    import numpy as np
    made = INPUTS[name](folder)
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(double)": np.float64}
    feeds = {}
    for i in session.get_inputs():
        array = np.asarray(made.get(i.name, next(iter(made.values()))), kinds[i.type], order="C")
        fixed = [d for d in i.shape if isinstance(d, int)]
        if 43844 in fixed and array.shape[1] < 43844:
            array = np.pad(array, [(0, 0), (0, 43844 - array.shape[1]), (0, 0)])
        feeds[i.name] = array
    return feeds


def whisper_features(model, feeds):
    """Log-mel features in fp64: where a bin is nearly silent, ONNX Runtime's own STFT is off by 2e-3 after the logarithm."""
    import numpy as np
    from onnx import load, numpy_helper
    weights = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in load(model).graph.initializer}
    x = np.pad(feeds["waveforms"].astype(np.float64), [(0, 0), (0, 480000 - feeds["waveforms"].shape[1])])
    x = np.pad(x, [(0, 0), (200, 200)], mode="reflect")
    frames = np.stack([x[:, at:at + 400] for at in range(0, x.shape[1] - 399, 160)], 1) * weights["hann_window"]
    power = np.abs(np.fft.rfft(frames, axis=-1)[:, :-1]) ** 2
    mel = np.log10(np.maximum(power @ weights["melscale_fbanks80"], 1e-10))
    return ((np.maximum(mel, mel.max() - 8) + 4) / 4).transpose(0, 2, 1).astype(np.float32)


EXACT = {"asr-whisper80": whisper_features}  # the first output, where ONNX Runtime is no judge


# ---- running --------------------------------------------------------------------------------------------------
def write_data(folder, model, feeds, wanted):
    from onnx import load, numpy_helper
    import numpy as np
    graph = load(model, load_external_data=False).graph
    given = {i.name for i in graph.initializer}
    names = [i.name for i in graph.input if i.name not in given]
    for kind, arrays in (("input", [feeds[n] for n in names]), ("output", wanted)):
        for i, array in enumerate(arrays):
            (folder / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(array)).SerializeToString())


def check(tenon, model, feeds, wanted, scratch, more):
    """Words of what is wrong, and the worst error relative to the tolerance's scale."""
    import numpy as np
    write_data(scratch, model, feeds, wanted)
    done = subprocess.run([tenon, "verify", str(model), str(scratch), "--atol", "1e-4", "--rtol", "1e-3", "--json", *more],
                          capture_output=True, text=True, timeout=600, errors="replace")
    words = " ".join(done.stderr.split())
    try:
        rows = json.loads(done.stdout)["values"]
    except (ValueError, KeyError):
        rows = []
    if not rows or words:
        return f"exit status {done.returncode}: {words[:300]}", None
    bad, worst = [], 0.0
    for row, array in zip(rows, wanted):
        scale = max(1.0, float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))) if array.dtype.kind == "f" and array.size else 1
        worst = max(worst, row.get("max_abs", float("inf")) / scale)
        if not row["ok"] and not row.get("max_abs", 1e9) <= 1e-4 * scale:
            bad.append(f"{row['name']}: {row}")
    return "; ".join(bad), worst


def seconds(call, rounds):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


def bench(tenon, model, session, feeds, scratch, threads, rounds, more):
    """Medians in ms of tenon and ONNX Runtime, by turns, on the inputs of the check."""
    ours, theirs = [], []
    for _ in range(3):
        done = subprocess.run([tenon, "bench", str(model), str(scratch), "--runs", str(rounds), "--threads", str(threads),
                               "--json", *more], capture_output=True, text=True)
        if done.returncode:
            return None
        ours.append(json.loads(done.stdout)[0]["ms"]["median"])
        theirs += seconds(lambda: session.run(None, feeds), rounds)
    return statistics.median(ours), 1e3 * statistics.median(theirs)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("folder", nargs="?", default=str(HERE.parents[2] / ".cache" / "onnx"))
    p.add_argument("--only", default="")
    p.add_argument("--bench", action="store_true")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=20)
    args = p.parse_args()
    folder = pathlib.Path(args.folder)
    if not (folder / "photo.jpg").exists():
        print(f"SKIP: {folder} is not there; run tools/fetch-onnx")
        return 77
    try:
        import onnx, onnxruntime as ort, PIL
    except ImportError as e:
        print(f"SKIP: {e}; needs the packages onnx, onnxruntime and pillow")
        return 77
    failed = count = 0
    for name in INPUTS:
        model = folder / f"{name}.onnx"
        if not re.search(args.only, name) or not model.exists():
            continue
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = args.threads
        settings.log_severity_level = 4
        session = ort.InferenceSession(str(model), settings)
        feeds = feed(session, folder, name)
        wanted = session.run(None, feeds)
        if name in EXACT:
            wanted[0] = EXACT[name](model, feeds)
        with tempfile.TemporaryDirectory() as scratch:
            words, worst = check(args.tenon, model, feeds, wanted, pathlib.Path(scratch), options(name))
            timing = bench(args.tenon, model, session, feeds, pathlib.Path(scratch), args.threads, args.rounds, options(name)) if args.bench and not words else None
        count += 1
        failed += bool(words)
        line = f"{name:20} " + (f"FAIL {words}" if words else f"ok    max error / max(1, rms) {worst:.1e}")
        if timing:
            line += f"   tenon {timing[0]:8.2f} ms   ONNX Runtime {timing[1]:8.2f} ms   ratio {timing[0] / timing[1]:.2f}"
        print(line, flush=True)
    print(f"{count - failed} of {count} models agree with ONNX Runtime {ort.__version__}")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
