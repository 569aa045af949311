/* bars.js - sections made of bars: size by type, latency, memory, time of the steps, sensitivity of layers. */

const WIDTH = 1100, LABEL = 250;

/* Lying bars, one row per entry: {name, parts: [{value, colour, hint}], text}. All share one scale. */
function bars(rows, label) {
  const most = Math.max(...rows.map(r => sum(r.parts, p => p.value)), 1e-300), step = 30, room = WIDTH - LABEL - 190;
  const svg = drawing(WIDTH, rows.length * step + 4, label);
  rows.forEach((row, i) => {
    let x = LABEL;
    svg.append(make("text", {class: "strong", x: LABEL - 10, y: i * step + 19, "text-anchor": "end"}, shorten(row.name, 36)));
    for (const part of row.parts) {
      const width = part.value / most * room;
      if (width > 0) svg.append(hint(make("rect", {class: "mark", x, y: i * step + 5, width: Math.max(width, 1), height: step - 10, rx: 2,
        style: `fill:${part.colour}`}), part.hint));
      x += width;
    }
    svg.append(make("text", {x: x + 8, y: i * step + 19}, row.text));
  });
  return make("div", {class: "scroll"}, svg);
}

const shorten = (text, n) => text.length <= n ? text : "…" + text.slice(text.length - n + 1);

function typeTotals(tensors, type, size) {
  const totals = new Map();
  for (const t of tensors) {
    const x = totals.get(t[type]) || {type: t[type], bytes: 0, count: 0};
    x.bytes += t[size], x.count++;
    totals.set(t[type], x);
  }
  return [...totals.values()].sort((a, b) => b.bytes - a.bytes);
}

function sizesSection(r) {
  if (!r.tensors) return null;
  const sides = [["before", typeTotals(r.tensors, "from", "bytes_before")], ["after", typeTotals(r.tensors, "to", "bytes_after")]];
  if (!r.after) sides.pop();
  const names = [...new Set(sides.flatMap(([, totals]) => totals.map(t => t.type)))];
  names.forEach(colourOf);
  return [legend(names), bars(sides.map(([name, totals]) => ({name: r.after ? name : "all tensors", text: bytes(sum(totals, t => t.bytes)),
    parts: totals.map(t => ({value: t.bytes, colour: colourOf(t.type),
      hint: `${t.type}: ${t.count} ${t.count === 1 ? "tensor" : "tensors"}, ${bytes(t.bytes)}`}))})), "bytes by type, before and after")];
}

/* Two bars per row, before above after. */
function pairs(rows, format, label) {
  const list = [];
  for (const row of rows) {
    if (isNumber(row.before)) list.push({name: `${row.what}, before`, text: format(row.before),
      parts: [{value: row.before, colour: "var(--c8)", hint: `${row.what}, before: ${format(row.before)}`}]});
    const change = isNumber(row.before) && isNumber(row.after) && row.after > 0 ? ` (${(row.before / row.after).toFixed(2)} times less)` : "";
    if (isNumber(row.after)) list.push({name: isNumber(row.before) ? "after" : row.what,
      text: format(row.after) + (change && row.before >= row.after ? change : ""),
      parts: [{value: row.after, colour: "var(--accent)", hint: `${row.what}, after: ${format(row.after)}`}]});
  }
  return list.length ? [bars(list, label)] : null;
}

function latencySection(r) {
  return pairs((r.latency || []).map(x => ({what: x.what, before: x.before_ms, after: x.after_ms})), milliseconds, "latency");
}

function memorySection(r) {
  return pairs((r.memory || []).map(x => ({what: x.what, before: x.before || null, after: x.after || null})), bytes, "memory");
}

function phasesSection(r) {
  if (!r.phases) return null;
  const most = [...r.phases].filter(p => p.seconds > 0).sort((a, b) => b.seconds - a.seconds).slice(0, 16);
  const kept = r.phases.filter(p => most.includes(p));
  if (!kept.length) return null;
  const left = r.phases.length - kept.length;
  return [bars(kept.map(p => ({name: p.name, text: milliseconds(p.seconds * 1000),
    parts: [{value: p.seconds, colour: "var(--accent)", hint: `${p.name}: ${milliseconds(p.seconds * 1000)}`}]})), "time of the steps"),
    left ? make("p", {class: "note"}, `${left} shorter ones are left out.`) : null];
}

/* Of layers where they were measured; else of single tensors. */
function sensitivitySection(r) {
  const layers = (r.layers || []).filter(x => isNumber(x.kl)).map(x => ({name: x.layer, kl: x.kl, saved: x.bytes_before - x.bytes_after}));
  const single = (r.tensors || []).filter(t => isNumber(t.sensitivity)).map(t => ({name: t.name, kl: t.sensitivity,
    saved: t.bytes_before - t.bytes_after})).sort((a, b) => b.kl - a.kl).slice(0, 40);
  const rows = layers.length ? layers : single;
  if (!rows.length) return null;
  return [make("p", {class: "note"}, `KL divergence of the output when only this ${layers.length ? "layer" : "tensor"} changes` +
    (layers.length ? "." : "; the 40 largest.")), bars(rows.map(x => ({name: x.name, text: short(x.kl, 3),
      parts: [{value: Math.max(x.kl, 0), colour: "var(--accent)", hint: `${x.name}\nKL divergence ${short(x.kl)}\nsaves ${bytes(x.saved)}`}]})),
    "sensitivity")];
}
