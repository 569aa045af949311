/* page.js - what all sections share (elements, numbers, the hint at the pointer), the summary, and the list of sections.
   A section is a function that gets the report and returns its elements, or null where the report has nothing of it. */

const report = JSON.parse(document.getElementById("report").textContent);

function make(tag, attributes, ...children) {
  const drawn = ["svg", "g", "rect", "circle", "line", "path", "text", "polyline"].includes(tag);
  const e = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

function drawing(width, height, label, ...children) {
  return make("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label}, ...children);
}

/* ---- numbers ---- */

const isNumber = x => typeof x === "number";
function short(x, digits) {
  if (!isNumber(x)) return "–";
  if (Math.abs(x) > 1.7e308) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  return size >= 1e6 || size < 1e-4 ? x.toExponential((digits || 4) - 2) : String(+x.toPrecision(digits || 4));
}
function bytes(n) {
  if (!isNumber(n)) return "–";
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) n /= 1000, unit++;
  return (unit ? n.toPrecision(n < 100 ? 3 : 4) : n) + " " + units[unit];
}
function milliseconds(x) {
  return !isNumber(x) ? "–" : x >= 1000 ? `${short(x / 1000, 3)} s` : `${short(x, 3)} ms`;
}
const percent = x => isNumber(x) ? `${(100 * x).toFixed(Math.abs(x) >= 0.9995 && x < 1 ? 3 : 1)} %` : "–";
const sum = (list, f) => list.reduce((t, x) => t + (f(x) || 0), 0);

/* Colours of types, in the order in which the report first names them. */
const typeColours = new Map();
function colourOf(type) {
  if (!typeColours.has(type)) typeColours.set(type, `var(--c${Math.min(typeColours.size, 8)})`);
  return typeColours.get(type);
}
function legend(names) {
  return make("div", {class: "legend"}, ...names.map(name =>
    make("span", {}, make("i", {style: `background:${colourOf(name)}`}), name)));
}

/* ---- the hint ---- */

function hint(e, text) {
  const tip = document.getElementById("tip");
  e.addEventListener("pointermove", event => {
    tip.textContent = text;
    tip.hidden = false;
    const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
    tip.style.left = `${Math.max(4, right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 16)}px`;
    tip.style.top = `${Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 4)}px`;
  });
  e.addEventListener("pointerleave", () => { tip.hidden = true; });
  return e;
}

/* ---- tables: columns are {title, value(row), text(row), number, mono} and sort by value ---- */

function table(columns, rows, options) {
  const {limit = 200, search = null, decorate = null} = options || {};
  let sorted = null, down = false, wanted = "", all = false;
  const body = make("tbody"), more = make("div", {class: "row"});
  const heads = columns.map((c, i) => make("th", {class: c.number ? "n" : null},
    make("button", {onclick: () => { down = sorted === i ? !down : !!c.number; sorted = i; fill(); }}, c.title)));
  const cell = (c, row) => {
    const shown = c.text ? c.text(row) : c.value(row);
    return make("td", {class: c.number ? "n" : c.mono ? "mono" : null}, shown === null || shown === undefined ? "" : shown);
  };
  function order(x, y) {
    const a = columns[sorted].value(x), b = columns[sorted].value(y);
    const none = v => v === null || v === undefined;
    if (none(a) || none(b)) return none(a) - none(b);
    return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
  }
  function fill() {
    let list = rows.filter(r => !wanted || search(r).toLowerCase().includes(wanted));
    if (sorted !== null) list = [...list].sort(order);
    heads.forEach((h, i) => i === sorted ? h.setAttribute("aria-sort", down ? "descending" : "ascending")
      : h.removeAttribute("aria-sort"));
    const shown = all ? list : list.slice(0, limit);
    body.replaceChildren(...shown.map(row => {
      const tr = make("tr", {}, ...columns.map(c => cell(c, row)));
      if (decorate) decorate(tr, row);
      return tr;
    }));
    more.replaceChildren(...(shown.length < list.length ? [make("span", {class: "dim"}, `${shown.length} of ${list.length} rows`),
      make("button", {class: "plain", onclick: () => { all = true; fill(); }}, "show all")] : []));
  }
  fill();
  const box = make("div", {});
  if (search && rows.length > 12)
    box.append(make("div", {class: "row"}, make("input", {type: "search", placeholder: "find by name", "aria-label": "find by name",
      oninput: e => { wanted = e.target.value.toLowerCase(); fill(); }})));
  box.append(make("div", {class: "scroll"}, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body)), more);
  return box;
}

/* ---- the summary ---- */

const measures = {
  kl_mean: ["KL divergence, mean", short], kl_median: ["KL divergence, median", short], kl_p99: ["KL divergence, 99 %", short],
  kl_max: ["KL divergence, max", short], top1_agreement: ["same likeliest token", percent],
  perplexity: ["perplexity", x => short(x, 6)], perplexity_reference: ["perplexity before", x => short(x, 6)],
  perplexity_increase: ["perplexity increase", percent], cosine_min: ["cosine, least", x => short(x, 8)],
  cosine_mean: ["cosine, mean", x => short(x, 8)], max_abs: ["largest difference", short], max_ulp: ["largest distance in ULP", short]};

function tile(name, value, extra) {
  return make("div", {class: "tile"}, make("div", {class: "k"}, name), make("div", {class: "v"}, value),
    extra ? make("div", {class: "x"}, extra) : null);
}

function modelTiles(r) {
  const tiles = [], before = r.before, after = r.after;
  if (before && after && before.bytes && after.bytes) {
    const ratio = after.bytes / before.bytes;
    tiles.push(tile("size", `${bytes(before.bytes)} → ${bytes(after.bytes)}`,
      ratio < 1 ? `${(1 / ratio).toFixed(2)} times smaller` : ratio > 1 ? `${ratio.toFixed(2)} times as large` : "the same size"));
  } else if (before || after) {
    tiles.push(tile("size", bytes((after || before).bytes)));
  }
  const bits = [before, after].map(m => m && isNumber(m.bits_per_weight) ? m.bits_per_weight.toFixed(2) : null);
  if (bits[0] || bits[1]) tiles.push(tile("bits per weight", bits[0] && bits[1] ? `${bits[0]} → ${bits[1]}` : bits[0] || bits[1]));
  return tiles;
}

function summary(r) {
  const tiles = modelTiles(r), changed = (r.tensors || []).filter(t => isNumber(t.nmse) && t.nmse > 0);
  for (const [key, value] of Object.entries(r.accuracy || {})) {
    const [name, format] = measures[key] || [key.replace(/_/g, " "), short];
    tiles.push(tile(name, format(value)));
  }
  if (changed.length) {
    const worst = changed.reduce((a, b) => a.nmse > b.nmse ? a : b);
    tiles.push(tile("largest relative error", percent(Math.sqrt(worst.nmse)), worst.name));
  }
  const compared = [...(r.outputs || []), ...(r.nodes || [])], first = (r.nodes || []).find(n => !n.ok);
  if (compared.length) {
    const bad = compared.filter(c => !c.ok).length;
    tiles.push(tile("compared values", make("span", {class: bad ? "bad" : "good"}, bad ? `${bad} of ${compared.length} differ` :
      `all ${compared.length} equal`), first ? `first: ${first.name}` : "within the tolerance"));
  }
  const misses = sum(r.fusions || [], f => f.near_misses.length), matched = sum(r.fusions || [], f => f.matched);
  if (r.fusions) tiles.push(tile("fusions", String(matched), misses ? `${misses} near misses` : "no near miss"));
  if (isNumber(r.seconds)) tiles.push(tile("this run", milliseconds(r.seconds * 1000),
    isNumber(r.peak_memory) ? `${bytes(r.peak_memory)} of memory at most` : null));
  return tiles;
}

/* ---- all of it ---- */

function sectionList() {
  return [["messages", "Messages", messagesSection], ["outputs", "Outputs", outputsSection], ["nodes", "Values inside", nodesSection],
    ["sizes", "Size by type", sizesSection], ["errors", "Error of each tensor", errorsSection],
    ["sensitivity", "Sensitivity", sensitivitySection], ["latency", "Latency", latencySection], ["memory", "Memory", memorySection],
    ["attention", "Attention", attentionSection], ["fusions", "Fusions", fusionsSection], ["phases", "Time of the steps", phasesSection],
    ["tensors", "Tensors", tensorsSection], ["command", "Command", commandSection]];
}

function commandSection(r) {
  return [make("p", {class: "mono"}, ["tenon", r.command, ...(r.arguments || [])].join(" "))];
}

function draw() {
  const main = document.getElementById("sections"), names = [r => r.before, r => r.after].map(f => f(report)).filter(Boolean);
  document.title = `tenon ${report.command}`;
  document.getElementById("title").textContent = names.map(m => m.path).join(" → ") || `tenon ${report.command}`;
  document.getElementById("subtitle").textContent = [`tenon ${report.command}`,
    ...names.map(m => m.format).filter(Boolean)].join(" · ");
  main.append(make("div", {class: "tiles"}, ...summary(report)));
  for (const [id, title, section] of sectionList()) {
    const parts = section(report);
    if (parts) main.append(make("section", {id}, make("h2", {}, title), ...parts));
  }
}

document.addEventListener("DOMContentLoaded", draw);
