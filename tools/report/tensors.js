/* tensors.js - the error of every tensor as a plot in the order of the file, and the table of all tensors. */

const kinds = {
  relative: {title: "relative error", value: t => isNumber(t.nmse) ? Math.sqrt(t.nmse) : null},
  rmse: {title: "root mean square error", value: t => t.rmse},
  max_abs: {title: "largest error", value: t => t.max_abs}};

/* Points over the index of their row, on a logarithmic scale. `rows`: {value, colour, hint, click}. */
function scatter(rows, label) {
  const height = 320, left = 70, bottom = 26, shown = rows.filter(r => isNumber(r.value) && r.value > 0);
  const logs = shown.map(r => Math.log10(Math.min(r.value, 1e30)));
  const low = Math.floor(Math.min(...logs) - 0.05), high = Math.max(Math.ceil(Math.max(...logs) + 0.05), low + 1);
  const y = v => 8 + (high - Math.log10(Math.min(v, 1e30))) / (high - low) * (height - bottom - 8);
  const x = i => left + 8 + (rows.length > 1 ? i / (rows.length - 1) : 0.5) * (WIDTH - left - 20);
  const svg = drawing(WIDTH, height, label), every = Math.ceil((high - low) / 8);
  for (let e = low; e <= high; e += every) {
    svg.append(make("line", {class: "grid", x1: left, x2: WIDTH, y1: y(10 ** e), y2: y(10 ** e)}));
    svg.append(make("text", {x: left - 8, y: y(10 ** e) + 4, "text-anchor": "end"}, e >= -3 && e <= 3 ? String(+(10 ** e).toPrecision(1)) : `1e${e}`));
  }
  rows.forEach((r, i) => {
    if (!isNumber(r.value) || !(r.value > 0)) return;
    svg.append(hint(make("circle", {class: "mark", cx: x(i).toFixed(1), cy: y(r.value).toFixed(1), r: rows.length > 400 ? 3 : 4.5,
      style: `fill:${r.colour}`, onclick: r.click}), r.hint));
  });
  return make("div", {class: "scroll"}, svg);
}

function showTensor(t) {
  for (const tr of document.querySelectorAll("#tensors tr.hot")) tr.classList.remove("hot");
  const row = [...document.querySelectorAll("#tensors tbody tr")].find(tr => tr.firstChild.textContent === t.name);
  if (!row) return;
  row.classList.add("hot");
  row.scrollIntoView({block: "center"});
}

function errorsSection(r) {
  const tensors = (r.tensors || []).filter(t => t.from !== t.to || t.nmse > 0);
  const given = Object.keys(kinds).filter(k => tensors.some(t => kinds[k].value(t) > 0));
  if (!given.length) return null;
  const types = [...new Set(tensors.map(t => t.to))], box = make("div", {});
  types.forEach(colourOf);
  const draw = kind => box.replaceChildren(scatter(tensors.map(t => ({value: kinds[kind].value(t), colour: colourOf(t.to),
    hint: `${t.name}\n${t.from} → ${t.to}, [${t.shape.join(", ")}]\n${kinds[kind].title} ${short(kinds[kind].value(t))}`,
    click: () => showTensor(t)})), `${kinds[kind].title} of each tensor`));
  draw(given[0]);
  const exact = tensors.filter(t => t.nmse === 0).length;
  return [make("div", {class: "row"}, legend(types), make("select", {"aria-label": "measure", onchange: e => draw(e.target.value)},
    ...given.map(k => make("option", {value: k}, kinds[k].title)))), box,
    make("p", {class: "note"}, "In the order of the file; a click shows the row." + (exact ? ` ${exact} are exact and have no point.` : ""))];
}

function tensorsSection(r) {
  if (!r.tensors) return null;
  const columns = [{title: "name", value: t => t.name, mono: true},
    {title: "type", value: t => t.to, text: t => t.from === t.to ? t.to : `${t.from} → ${t.to}`},
    {title: "shape", value: t => t.shape.reduce((a, b) => a * b, 1), text: t => t.shape.join(" × "), number: true},
    {title: "bits", value: t => t.bits, text: t => isNumber(t.bits) ? t.bits.toFixed(2) : "–", number: true},
    {title: r.after ? "before" : "size", value: t => t.bytes_before, text: t => bytes(t.bytes_before), number: true}];
  if (r.after) columns.push({title: "after", value: t => t.bytes_after, text: t => bytes(t.bytes_after), number: true});
  if (r.tensors.some(t => isNumber(t.nmse)))
    columns.push({title: "relative error", value: kinds.relative.value, text: t => short(kinds.relative.value(t), 3), number: true},
      {title: "RMSE", value: t => t.rmse, text: t => short(t.rmse, 3), number: true});
  if (r.tensors.some(t => isNumber(t.sensitivity)))
    columns.push({title: "sensitivity", value: t => t.sensitivity, text: t => short(t.sensitivity, 3), number: true});
  if (r.tensors.some(t => t.why || t.importance))
    columns.push({title: "", value: t => t.why, text: t => [t.importance ? "with importance" : null, t.why].filter(Boolean).join(", ")});
  return [table(columns, r.tensors, {search: t => t.name})];
}
