/* attention.js - attention weights of a prompt: small pictures of all heads of a layer, and the chosen one large, a row per
   token that looks, a column per token that is looked at. */

/* Cell colours: the accent, the stronger the larger the weight; square root, so that small weights are seen. */
const strength = w => Math.sqrt(Math.max(0, Math.min(1, w)));

function thumbnail(head) {
  const n = head.tokens.length, canvas = make("canvas", {width: n, height: n}), context = canvas.getContext("2d");
  const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  context.fillStyle = accent;
  head.weights.forEach((row, i) => row.forEach((w, k) => {
    context.globalAlpha = strength(w);
    if (w > 0.001) context.fillRect(k, i, 1, 1);
  }));
  return canvas;
}

function heatmap(head) {
  const n = head.tokens.length, cell = Math.max(8, Math.min(24, Math.floor(760 / n))), left = 130, top = 110;
  const svg = drawing(left + n * cell + 8, top + n * cell + 8, `attention of layer ${head.layer}, head ${head.head}`);
  const token = i => shorten(head.tokens[i].replace(/ /g, "␣").replace(/\n/g, "⏎") || "∅", 16);
  svg.append(make("rect", {x: left, y: top, width: n * cell, height: n * cell, style: "fill:none;stroke:var(--line)"}));
  for (let i = 0; i < n; i++) {
    if (cell >= 10 || i % 2 === 0) {
      svg.append(make("text", {x: left - 6, y: top + i * cell + cell / 2 + 4, "text-anchor": "end"}, token(i)));
      svg.append(make("text", {x: 0, y: 0, transform: `translate(${left + i * cell + cell / 2 + 4} ${top - 6}) rotate(-60)`}, token(i)));
    }
    head.weights[i].forEach((w, k) => {
      if (w < 0.001) return;
      svg.append(hint(make("rect", {class: "mark", x: left + k * cell, y: top + i * cell, width: cell, height: cell,
        style: `fill:var(--accent);fill-opacity:${strength(w).toFixed(3)}`}), `${token(i)} looks at ${token(k)}: ${percent(w)}`));
    });
  }
  return make("div", {class: "scroll"}, svg);
}

function attentionSection(r) {
  if (!r.attention) return null;
  const layers = [...new Set(r.attention.map(h => h.layer))], large = make("div", {}), thumbs = make("div", {class: "thumbs"});
  function choose(head) {
    large.replaceChildren(heatmap(head));
    thumbs.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", b.dataset.head === String(head.head)));
  }
  function show(layer) {
    const heads = r.attention.filter(h => h.layer === layer);
    thumbs.replaceChildren(...heads.map(h => make("button", {"data-head": h.head, onclick: () => choose(h)}, thumbnail(h),
      `head ${h.head}`)));
    choose(heads[0]);
  }
  show(layers[0]);
  return [make("p", {class: "note"}, "How much each token (row) looks at each other (column)."),
    layers.length > 1 ? make("div", {class: "row"}, make("label", {}, "layer ", make("select", {
      onchange: e => show(Number(e.target.value))}, ...layers.map(l => make("option", {value: l}, String(l)))))) : null, thumbs, large];
}
