#!/usr/bin/env python3
"""Opens reports in a headless browser: their plots are there, show what report.json says, and nothing is written to the
console.

    browser.py BROWSER TENON FOLDER

FOLDER has the report of test_report.c, with a row in every section; that of a real comparison is made here. A page with a
script that fails is opened too, so that a silent console is known to mean something.
"""
import html.parser
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "verify"))
from models import MODELS, copy, np


class Page(html.parser.HTMLParser):
    """Counts marks by the section they are in, and gathers texts."""

    def __init__(self, text):
        super().__init__()
        self.section, self.tag, self.marks, self.texts, self.rows, self.outside = "head", "", {}, {}, {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tag = tag
        if tag == "section":
            self.section = attrs.get("id", "?")
        for key in "src", "href":
            if key in attrs:
                self.outside.append(attrs[key])
        if tag in ("circle", "rect") and "mark" in attrs.get("class", ""):
            width, height = float(attrs.get("width", 1)), float(attrs.get("height", 1))
            at = [float(attrs[k]) for k in ("x", "y", "cx", "cy") if k in attrs]
            if width <= 0 or height <= 0 or not all(np.isfinite([*at, width, height])):
                sys.exit(f"{self.section}: a mark of no size: {attrs}")
            self.marks.setdefault(self.section, []).append(tag)
        if tag == "tr":
            self.rows[self.section] = self.rows.get(self.section, 0) + 1

    def handle_endtag(self, tag):
        self.tag = ""

    def handle_data(self, data):
        if self.tag not in ("script", "style"):
            self.texts[self.section] = self.texts.get(self.section, "") + " " + data


class Browser:
    def __init__(self, program, work):
        self.program, self.work = program, work

    def run(self, *args):
        base = [self.program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                "--enable-logging=stderr", "--log-level=0", f"--user-data-dir={self.work}/profile"]
        r = subprocess.run([*base, *args], capture_output=True, text=True, timeout=120)
        said = [line for line in r.stderr.splitlines() if ":CONSOLE" in line]
        if r.returncode:
            sys.exit(f"{self.program} {args}: exit {r.returncode}: {r.stderr[-2000:]}")
        return r.stdout, said

    def page(self, path):
        text, said = self.run("--dump-dom", f"file://{os.path.abspath(path)}")
        return Page(text), said

    def picture(self, path, dark):
        """[height, width, 3] of what is on the screen."""
        out = f"{self.work}/shot.png"
        _, said = self.run(f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--window-size=900,2000",
                           f"--screenshot={out}", f"file://{os.path.abspath(path)}")
        return png(out), said


def png(path):
    """An image of 8-bit RGB or RGBA, by the PNG specification."""
    data = open(path, "rb").read()
    at, parts = 8, b""
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", data[at + 8:at + 18])
        elif kind == b"IDAT":
            parts += data[at + 8:at + 8 + n]
        at += 12 + n
    assert depth == 8 and colour in (2, 6)
    size = 3 if colour == 2 else 4
    raw = np.frombuffer(zlib.decompress(parts), np.uint8).reshape(height, width * size + 1)
    rows, last = np.zeros((height, width, size), np.int64), np.zeros((width, size), np.int64)
    for y in range(height):
        kind, line = raw[y, 0], raw[y, 1:].reshape(width, size).astype(np.int64)
        if kind == 1:
            line = np.cumsum(line, 0) % 256
        elif kind == 2:
            line = (line + last) % 256
        elif kind:
            line = unfilter(kind, line, last)
        rows[y] = last = line
    return rows[:, :, :3]


def unfilter(kind, line, last):
    left, corner, out = np.zeros(line.shape[1], np.int64), np.zeros(line.shape[1], np.int64), np.empty_like(line)
    for x in range(len(line)):
        up = last[x]
        if kind == 3:
            guess = (left + up) // 2
        else:
            a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            guess = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
        out[x] = left = (line[x] + guess) % 256
        corner = up
    return out


def near(picture, colour, within=24):
    wanted = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(picture - wanted).max(-1) <= within).sum())


class Checks:
    def __init__(self):
        self.failed = 0

    def __call__(self, what, ok, text=""):
        self.failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {what} {text}", flush=True)


def check_rows(check, browser, folder):
    """Every section of the report of test_report.c."""
    path = f"{folder}/report.html"
    r = json.load(open(f"{folder}/report.json"))
    page, said = browser.page(path)
    check("rows: no word on the console", not said, " ".join(said))
    check("rows: nothing from outside", not page.outside, str(page.outside))
    points = sum(1 for t in r["tensors"] if t["nmse"])
    wanted = {"errors": points, "nodes": sum(1 for n in r["nodes"] if n["nmse"]), "sensitivity": len(r["layers"]),
              "latency": 3, "memory": 2, "phases": 2,
              "sizes": len({t["from"] for t in r["tensors"]}) + len({t["to"] for t in r["tensors"]}),
              "attention": sum(1 for row in r["attention"][0]["weights"] for w in row if w >= 0.001)}
    for section, n in wanted.items():
        check(f"rows: {section} has its marks", len(page.marks.get(section, [])) == n, f"{len(page.marks.get(section, []))} of {n}")
    check("rows: a row for each tensor", page.rows.get("tensors") == len(r["tensors"]) + 1, str(page.rows.get("tensors")))
    hostile = "</script><script>alert(1)</script>"
    check("rows: a hostile name is text", hostile in page.texts["tensors"] and hostile in page.texts["messages"])
    check("rows: the summary says what changed", "2.20 GB → 630.0 MB" in page.texts["head"] and "0.0123" in page.texts["head"])
    check("rows: what differs is named", "llama.model:14 matmul #1" in page.texts["nodes"])


def check_pictures(check, browser, path):
    style = open(path).read()
    schemes = re.findall(r":root \{(.*?)\}", style, re.S)
    for dark, scheme in enumerate(schemes[:2]):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", scheme))
        shot, said = browser.picture(path, dark)
        name = "dark" if dark else "light"
        check(f"{name}: the background", near(shot, colours["bg"], 4) > 0.1 * shot.shape[0] * shot.shape[1])
        for c in "accent", "bad":
            check(f"{name}: drawn in {c}", near(shot, colours[c]) > 40, str(near(shot, colours[c])))
        check(f"{name}: no word on the console", not said, " ".join(said))


def check_real(check, browser, tenon, work):
    """A comparison whose first difference is known."""
    def change(w):
        w["model.layers.1.mlp.up_proj.weight"][1, 2] += 0.5
    changed = copy("llama", f"{work}/changed", change)
    done = subprocess.run([tenon, "verify", f"{MODELS}/llama", changed, "--report", work], capture_output=True, text=True)
    check("real: the models differ", done.returncode == 1, done.stderr)
    r = json.load(open(f"{work}/report.json"))
    page, said = browser.page(f"{work}/report.html")
    check("real: no word on the console", not said, " ".join(said))
    points = sum(1 for n in r["nodes"] if n["nmse"])
    check("real: a point for each value that changed", points > 3 and len(page.marks.get("nodes", [])) == points, str(points))
    first = next(n["name"] for n in r["nodes"] if not n["ok"])
    check("real: the first that differs", "matmul" in first and first in page.texts["nodes"] and first in page.texts["head"], first)
    check("real: bars of latency", len(page.marks.get("latency", [])) > 1)
    check_pictures(check, browser, f"{work}/report.html")


def check_quantized(check, browser, tenon, work):
    """A run that makes something smaller: a point for the error of each tensor that changed."""
    demo = os.path.join(MODELS, "..", "..", "..", "tools", "demo-model", "model")
    done = subprocess.run([tenon, "quantize", demo, f"{work}/demo.gguf", "q8_0"], capture_output=True, text=True)
    check("quantized: exit status", done.returncode == 0, done.stderr)
    r = json.load(open(f"{work}/demo.gguf.report.json"))
    page, said = browser.page(f"{work}/demo.gguf.report.html")
    check("quantized: no word on the console", not said, " ".join(said))
    points = sum(1 for t in r["tensors"] if t["nmse"])
    check("quantized: a point for each tensor that changed", points > 10 and len(page.marks.get("errors", [])) == points, str(points))
    check("quantized: sizes before and after", r["after"]["bytes"] < r["before"]["bytes"] and len(page.marks.get("sizes", [])) >= 3)


def main(program, tenon, folder):
    check = Checks()
    with tempfile.TemporaryDirectory() as work:
        browser = Browser(program, work)
        with open(f"{work}/bad.html", "w") as f:
            f.write("<!doctype html><script>nothing.there()</script>")
        check("a failing script is noticed", len(browser.page(f"{work}/bad.html")[1]) == 1)
        check_rows(check, browser, folder)
        check_real(check, browser, tenon, work)
        check_quantized(check, browser, tenon, work)
    return check.failed > 0


if __name__ == "__main__":
    if not sys.argv[1] or sys.argv[1].endswith("NOTFOUND"):
        sys.exit(print("SKIPPED: there is no browser") or 77)
    sys.exit(main(*sys.argv[1:]))
