/* checks.js - what was compared and what was said: messages, outputs, values inside the model, fusions. */

function messagesSection(r) {
  if (!r.messages) return null;
  const classes = {error: "bad", warning: "warn", note: "dim"};
  return [make("table", {}, make("tbody", {}, ...r.messages.map(m => make("tr", {},
    make("td", {class: classes[m.severity]}, m.severity), make("td", {}, m.text)))))];
}

const state = x => make("span", {class: x.ok ? "good" : "bad"}, x.ok ? "equal" : "differs");

function outputsSection(r) {
  if (!r.outputs) return null;
  return [table([{title: "", value: x => x.ok, text: state}, {title: "output", value: x => x.name, mono: true},
    {title: "cosine", value: x => x.cosine, text: x => isNumber(x.cosine) ? x.cosine.toFixed(9) : "–", number: true},
    {title: "largest difference", value: x => x.max_abs, text: x => short(x.max_abs), number: true}], r.outputs)];
}

function nodesSection(r) {
  if (!r.nodes) return null;
  const first = r.nodes.find(n => !n.ok), relative = n => isNumber(n.nmse) ? Math.sqrt(n.nmse) : null;
  const equal = r.nodes.every(n => !(relative(n) > 0));
  return [make("p", {class: "note"}, `${r.nodes.length} values exist on both sides, in the order they are computed. `,
    first ? make("span", {}, "The first that differs: ", make("code", {}, first.name)) : "None differs."),
  equal ? null : scatter(r.nodes.map(n => ({value: relative(n), colour: n.ok ? "var(--c0)" : "var(--bad)",
    hint: `${n.name}\nrelative difference ${short(relative(n))}, largest ${short(n.max_abs)}\ncosine ${short(n.cosine, 9)}`})),
  "relative difference of each value"),
  table([{title: "", value: x => x.ok, text: state}, {title: "value", value: x => x.name, mono: true},
    {title: "cosine", value: x => x.cosine, text: x => isNumber(x.cosine) ? x.cosine.toFixed(9) : "–", number: true},
    {title: "relative difference", value: relative, text: x => short(relative(x), 3), number: true},
    {title: "largest difference", value: x => x.max_abs, text: x => short(x.max_abs, 3), number: true}], r.nodes,
  {limit: 20, search: x => x.name, decorate: (tr, x) => { if (x === first) tr.classList.add("hot"); }})];
}

function fusionsSection(r) {
  if (!r.fusions) return null;
  const reasons = f => {
    const list = f.near_misses.map(m => `${m.at}: ${m.why}${m.blocked_by ? ` (${m.blocked_by})` : ""}`);
    return list.length ? make("span", {}, ...list.slice(0, 8).map(text => make("div", {}, text)),
      list.length > 8 ? make("div", {class: "dim"}, `and ${list.length - 8} more`) : null) : "";
  };
  return [table([{title: "pattern", value: f => f.pattern, mono: true}, {title: "matched", value: f => f.matched, number: true},
    {title: "near misses", value: f => f.near_misses.length, number: true}, {title: "what blocked them", value: f => f.near_misses.length,
      text: reasons}], r.fusions)];
}
