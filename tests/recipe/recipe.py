#!/usr/bin/env python3
"""tenon run-recipe over tiny models: order and determinism with several jobs at a time, what a second run keeps and what
it runs again, failures and what they skip, limits, and what is refused before anything runs.

    recipe.py TENON SOURCE_DIR
"""
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TENON, SOURCE = sys.argv[1], sys.argv[2]
MODELS = os.path.join(SOURCE, "tests/parity/models")
failures = 0


def expect(what, good, *shown):
    global failures
    failures += not good
    print("ok  " if good else "FAIL", what, *([] if good else shown))


def run(tmp, recipe, *more, name="r.json"):
    if recipe is not None:
        with open(os.path.join(tmp, name), "w") as f:
            f.write(recipe if isinstance(recipe, str) else json.dumps(recipe))
    return subprocess.run([TENON, "run-recipe", os.path.join(tmp, name), *more], capture_output=True, text=True,
                          timeout=250, cwd="/")


def results(p):
    try:
        return {f"{j['model']}/{j['step']}": j["result"] for j in json.loads(p.stdout)["jobs"]}
    except ValueError:
        return p.stdout + p.stderr


# One model is read twice, what one step makes is read by the next, and the steps "ops" need nothing.
BASE = {
    "//": "a comment",
    "name": "base",
    "models": ["one", {"name": "two", "path": "other", "vars": {"level": "O0"}}],
    "vars": {"level": "O1", "//": "of all models"},
    "steps": [
        {"run": "check", "name": "ops", "show": ["ops"]},
        {"run": "export", "to": "onnx", "out": "{name}.onnx", "options": {"opset": 18}},
        {"run": "check", "name": "again", "model": "{export}", "options": {"shapes": []}, "require": {"ok": True}},
        {"run": "verify", "model": "{model}@{level},ref", "with": "{model}@O3", "after": ["ops"],
         "require": {"ok": True, "values.*.cosine": {"min": 0.9999, "//": "each of them"}}},
    ],
}


def begin(tmp):
    shutil.copytree(os.path.join(MODELS, "bert-model"), os.path.join(tmp, "one"))
    shutil.copytree(os.path.join(MODELS, "distilbert"), os.path.join(tmp, "other"))


def test_order(tmp):
    """Tables and JSON are the same bytes however many jobs run; the second run keeps all."""
    begin(tmp)
    a = run(tmp, BASE, "-o", os.path.join(tmp, "x"), "--json")
    b = run(tmp, BASE, "-o", os.path.join(tmp, "y"), "--json", "-j", "4")
    want = {f"{m}/{s}": "done" for m in ("one", "two") for s in ("ops", "export", "again", "verify")}
    expect("all done", a.returncode == 0 and results(a) == want, results(a), a.stderr)
    expect("in the order of the recipe", list(results(a)) == list(want))
    expect("the same with -j 4", a.stdout.replace("/x/", "/y/") == b.stdout, a.stdout, b.stdout)
    with open(os.path.join(tmp, "x/summary.json")) as f:
        expect("summary.json", f.read() == a.stdout)
    job = json.loads(a.stdout)["jobs"]
    expect("command", job[5]["command"] == ["tenon", "export", "onnx", "other", os.path.join(tmp, "x/two/two.onnx"),
                                            "--opset=18", "--json"], job[5]["command"])
    expect("variable of a model", "other@O0,ref" in job[7]["command"] and "one@O1,ref" in job[3]["command"])
    expect("values", job[0]["values"]["ops"] == json.load(open(os.path.join(tmp, "x/one/logs/ops.out")))["ops"])
    kept = run(tmp, BASE, "-o", os.path.join(tmp, "x"), "-j", "3")
    expect("all kept", kept.returncode == 0 and "base: 0 done, 8 kept, 0 below" in kept.stdout, kept.stdout)
    forced = run(tmp, BASE, "-o", os.path.join(tmp, "x"), "--force", "--json")
    expect("--force", results(forced) == want, results(forced))


def test_resume(tmp):
    """Only what sees a change is run again."""
    begin(tmp)
    expect("default folder", run(tmp, BASE).returncode == 0 and os.path.isdir(os.path.join(tmp, "base.out")))

    def changed(what, want):
        p = run(tmp, BASE, "--json")
        got = {k for k, v in results(p).items() if v == "done"}
        expect(what, got == want and p.returncode == 0, got, p.stderr)

    os.utime(os.path.join(tmp, "one/config.json"), (1, 1))
    changed("a touched file changes nothing", set())
    with open(os.path.join(tmp, "one/notes.txt"), "w") as f:
        f.write("new")
    # the ONNX file comes out the same, so that what reads it is kept
    changed("a new file in the folder", {"one/ops", "one/export", "one/verify"})
    os.remove(os.path.join(tmp, "base.out/two/two.onnx"))
    changed("a result that is gone", {"two/export"})
    with open(os.path.join(tmp, "base.out/two/two.onnx"), "ab") as f:
        f.write(b"\0")
    changed("a result that was changed", {"two/export"})
    BASE["steps"][3]["options"] = {"atol": 0.01}
    changed("another option", {"one/verify", "two/verify"})
    del BASE["steps"][3]["options"]
    with open(os.path.join(tmp, "base.out/state.json"), "w") as f:
        f.write('{"version": 99}')
    p = run(tmp, BASE)
    expect("a state of another version", p.returncode == 0 and "8 done" in p.stdout and "is no state of a recipe" in p.stderr)


def test_killed(tmp):
    """A run that is ended in the middle goes on where it was."""
    begin(tmp)
    with open(os.path.join(tmp, "r.json"), "w") as f:
        json.dump(BASE, f)
    p = subprocess.Popen([TENON, "run-recipe", os.path.join(tmp, "r.json")], stdout=subprocess.DEVNULL,
                         start_new_session=True)
    state = os.path.join(tmp, "base.out/state.json")
    while p.poll() is None and not (os.path.exists(state) and '"job"' in open(state).read()):
        time.sleep(0.005)
    if p.poll() is None:
        os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    done = {x["job"] for x in json.load(open(state))["done"]}
    p = run(tmp, BASE, "--json")
    expect("goes on", p.returncode == 0 and {k for k, v in results(p).items() if v == "kept"} == done, done, results(p))
    expect("in the middle", 0 < len(done) <= 8, done)


def test_failures(tmp):
    """A failure skips what needs it, and nothing else; when it is mended, the rest is run."""
    begin(tmp)
    config = os.path.join(tmp, "one/config.json")
    good = open(config).read()
    with open(config, "w") as f:
        f.write(good.replace('"bert"', '"no-such-model"').replace("BertModel", "NoSuchModel"))
    p = run(tmp, BASE, "--json")
    want = {"one/ops": "failed", "one/export": "failed", "one/again": "skipped", "one/verify": "skipped",
            **{f"two/{s}": "done" for s in ("ops", "export", "again", "verify")}}
    expect("skipped", p.returncode == 1 and results(p) == want, results(p))
    p = run(tmp, BASE)
    expect("said why", "failed   exit 1: " in p.stdout and "NoSuchModel" in p.stdout, p.stdout)
    expect("table", "base: 0 done, 4 kept, 0 below a limit, 2 failed, 2 skipped" in p.stdout, p.stdout)
    with open(config, "w") as f:
        f.write(good)
    p = run(tmp, BASE, "--json")
    expect("mended", p.returncode == 0 and {v for k, v in results(p).items() if k.startswith("two")} == {"kept"})


def test_limits(tmp):
    begin(tmp)
    recipe = {"model": "one", "name": "limits", "steps": [
        {"run": "check", "require": {"ops": {"min": 1, "max": 3}, "warnings": 7, "entries": {"equal": "one"},
                                     "no.such": {"min": 0}, "architecture": {"max": 5}, "ok": True}},
        {"run": "verify", "with": "{model}@O0", "name": "kept",
         "require": {"values.*.max_abs": {"max": 0}, "values.0.name": "nothing"}},
        {"run": "verify", "with": "one-changed", "name": "far", "options": {"min-cosine": 0.99999}},
    ]}
    shutil.copytree(os.path.join(tmp, "one"), os.path.join(tmp, "one-changed"))
    weights = os.path.join(tmp, "one-changed/model.safetensors")
    with open(weights, "r+b") as f:
        f.seek(-20000, 2)
        f.write(b"\x11\x22\x33\x44" * 2000)
    p = run(tmp, recipe)
    ops = json.load(open(os.path.join(tmp, "limits.out/one/logs/check.out")))["ops"]
    lines = p.stdout.splitlines()
    for line in (f"  one/check: ops is {ops}; it must be at most 3",
                 "  one/check: warnings is 0; it must be equal to 7",
                 "  one/check: entries is 1; it must be equal to \"one\"",
                 "  one/check: no.such is not in what it printed",
                 "  one/check: architecture is \"BertModel\"; it must be at most 5"):
        expect(f"named:{line[1:60]}", line in lines, p.stdout)
    expect("not named: ok", not any("check: ok" in x for x in lines))
    expect("each item", any("values.0.name is" in x for x in lines), p.stdout)
    expect("option of verify", any("one/far: min-cosine is" in x for x in lines), p.stdout)
    expect("exit status", p.returncode == 1 and " 2 below a limit, 1 failed" in p.stdout, p.stdout)
    p = run(tmp, recipe, "--json")
    first = json.loads(p.stdout)["jobs"][0]
    expect("json", first["result"] == "below" and first["broken"][0] == {
        "path": "ops", "value": ops, "limit": "at most", "bound": 3} and len(first["broken"]) == 5, first["broken"])


def test_variants(tmp):
    begin(tmp)
    recipe = {"model": {"path": "one", "vars": {"n": 17}}, "variants": [{"n": 16}, {"name": "late", "n": 20}],
              "steps": [{"run": "export", "to": "onnx", "out": "{{{n}}}.onnx", "options": {"opset": "{n}"}}]}
    p = run(tmp, recipe, "--list")
    expect("variants", p.stdout.splitlines() == [
        "tenon export onnx one 'r.out/one-16/{16}.onnx' --opset=16 --json",
        "tenon export onnx one 'r.out/one-late/{20}.onnx' --opset=20 --json"], p.stdout, p.stderr)
    recipe["steps"].insert(0, {"run": "check", "name": "once"})
    recipe["steps"].insert(1, {"run": "export", "name": "all", "to": "onnx", "out": "all.onnx"})
    recipe["steps"].append({"run": "check", "name": "each", "model": "{all}", "after": ["export"]})
    recipe["steps"].append({"run": "check", "name": "behind", "model": "{export}"})
    recipe["variants"].append({"n": 0.1})
    p = run(tmp, recipe, "--list")
    words = [x.split()[-2] for x in p.stdout.splitlines()]
    each = [["r.out/one/all.onnx", f"'r.out/one-{v}.onnx'"] for v in ("16/{16}", "late/{20}", "0.1/{0.1}")]
    expect("shared by the variants", [x.split()[1] for x in p.stdout.splitlines()] ==
           ["check", "export"] + 3 * ["export", "check", "check"] and "--opset=0.1" in p.stdout and
           [words[i : i + 2] for i in (3, 6, 9)] == each, p.stdout, p.stderr)
    expect("--list makes nothing", not os.path.exists(os.path.join(tmp, "r.out")))


REFUSED = [
    (lambda r: r.update(stepz=[]), "stepz: error: is not known; did you mean 'steps'?"),
    (lambda r: r.update(model="one"), "has not one of 'model' and 'models'"),
    (lambda r: r.update(models=[]), "models: error: is empty"),
    (lambda r: r.update(models=[3]), "models[0]: error: should be a path or an object, is an integer"),
    (lambda r: r.update(models=["one", "x/one"]), "models[1]: error: is called 'one', as another one is"),
    (lambda r: r.update(models=["one", "one-a"], variants=[{"x": "a"}]), "models[1]: error: is called 'one-a', as another"),
    (lambda r: r.update(models=[{"path": "one", "name": "../up"}]), "'../up' is not a name"),
    (lambda r: r.update(models=[{"name": "one"}]), "models[0]: error: has no path"),
    (lambda r: r.update(variants=[{"x": [1]}]), "variants[0].x: error: should be a text or a number, is a list"),
    (lambda r: r.update(vars=3), "vars: error: should be an object, is an integer"),
    (lambda r: r.update(steps=[]), "steps: error: is missing or empty"),
    (lambda r: r["steps"][0].update(run="chek"), "steps[0].run: error: 'chek' is not known; did you mean 'check'?"),
    (lambda r: r["steps"][0].update(run="chat"), "'chat' is not known"),
    (lambda r: r["steps"][0].pop("run"), "steps[0]: error: has no 'run'"),
    (lambda r: r["steps"][1].pop("to"), "steps[1]: error: export needs 'to'"),
    (lambda r: r["steps"][1].update(out=3), "steps[1].out: error: should be a string, is an integer"),
    (lambda r: r["steps"][0].update(requires={}), "steps[0].requires: error: is not known; did you mean 'require'?"),
    (lambda r: r["steps"][1]["options"].update(opsett=3), "steps[1].options.opsett: error: is not known; did you mean"),
    (lambda r: r["steps"][1]["options"].update(opset={}), "export.opset: error: is an object, which is no option's value"),
    (lambda r: r["steps"][2].update(model="{exprt}"), "again.model: error: {exprt} is neither a variable nor an earlier"),
    (lambda r: r["steps"][2].update(model="{verify}"), "{verify} is neither a variable nor an earlier step"),
    (lambda r: r["steps"][2].update(model="{ops}"), "again.model: error: {ops}: that step makes nothing"),
    (lambda r: r["steps"][2].update(model="{export"), "again.model: error: '{' without '}'"),
    (lambda r: r["steps"][2].update(model="--x"), "again.model: error: '--x' begins as an option does"),
    (lambda r: r["steps"][2].update(name="ops"), "steps[2]: error: is called 'ops', as another step is"),
    (lambda r: r["steps"][3].update(after=["later"]), "verify.after: error: 'later' is no earlier step"),
    (lambda r: r["steps"][3]["require"].update(ok={}), "require.ok: error: has none of min, max and equal"),
    (lambda r: r["steps"][3]["require"].update(ok={"min": "x"}), "require.ok: error: has a limit that is no number"),
    (lambda r: r["steps"][3]["require"].update(ok={"mim": 1}), "require.ok.mim: error: is not known; did you mean 'min'?"),
    (lambda r: r["steps"][3]["require"].update(ok=[1]), "require.ok: error: is a list, not a limit"),
]


def test_refused(tmp):
    for change, words in REFUSED:
        recipe = copy.deepcopy(BASE)
        change(recipe)
        p = run(tmp, recipe)
        expect(f"refused: {words[:70]}", p.returncode == 1 and words in p.stderr, p.stderr)
    for text, words in (("[]", "should be an object, is a list"), ("{\n 'x'", "r.json:2:2: error: "),
                        ('{"name": 1, "name": 2}', "error: ")):
        p = run(tmp, text)
        expect(f"refused: {words}", p.returncode == 1 and words in p.stderr, p.stderr)
    p = run(tmp, None, name="none.json")
    expect("no such file", p.returncode == 1 and "none.json: error: cannot be read" in p.stderr, p.stderr)
    p = run(tmp, BASE, "-j", "0")
    expect("-j 0", p.returncode == 1 and "0 is not from 1 to 256" in p.stderr, p.stderr)
    expect("nothing was made", os.listdir(tmp) == ["r.json"], os.listdir(tmp))


if __name__ == "__main__":
    for test in (test_order, test_resume, test_killed, test_failures, test_limits, test_variants, test_refused):
        with tempfile.TemporaryDirectory() as folder:
            test(os.path.realpath(folder))
    sys.exit(failures > 0)
