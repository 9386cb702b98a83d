/* Charts as SVG. Their colours are variables of the style sheet, so that another theme needs no redrawing.
   Not by a library: minified, this file's 22 kB are 259 kB of Observable Plot 0.6.17, 772 kB of Vega and Vega-Lite 6, 1.96 MB of plotly,
   in each page of about 1 MB; uPlot 1.6.32 (51 kB) draws on a canvas, which no style sheet reaches, and axes of numbers alone. */
// asked of the browser, since a page that fetches nothing holds no address
const SVG = made("div", "", { innerHTML: "<svg></svg>" }).firstChild.namespaceURI;
const COLOURS = 8, MOST_ROWS = 40, PRINTED = 680;
const SYMBOLS = { exact: "circle", interval: "diamond", least: "up" };
const FONT = 12;

const colour = (place) => `var(--series-${place % COLOURS})`;
const short = (text, most = 38) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const signed = (text) => text.replace("-", "−").replace(/^−(0(\.0*)?)$/, "$1");
const nats = (value) => (value === null || value === undefined ? "" : signed(value.toFixed(3)));
const narrow = (width) => width < 560;
const unique = (values) => [...new Set(values)];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const pen = document.createElement("canvas").getContext("2d");

/* Pixels that words take. */
function wide(text, size = FONT) {
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

function node(tag, { style = {}, ...attributes } = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  Object.assign(element.style, style);
  element.append(...children);
  return element;
}

/* Where a bracket is drawn: its middle, or its one end. */
const kindOf = (ends) => (ends.exact ? "exact" : ends.high ? "interval" : "least");
const centre = (ends) => (ends.exact || !ends.high ? ends.low[0] : (ends.low[0] + ends.high[0]) / 2);
const lower = (ends) => ends.low[0] - (ends.low[1] ?? 0);
const upper = (ends) => { const top = ends.exact || !ends.high ? ends.low : ends.high; return top[0] + (top[1] ?? 0); };
const plusMinus = (pair) => (pair ? `${nats(pair[0])}${pair[1] === null ? "" : ` ± ${nats(pair[1])}`}` : "");
function words(ends) {
  if (!ends) return "";
  if (ends.exact) return `= ${plusMinus(ends.low)}`;
  return ends.high ? `${nats(ends.low[0])} to ${nats(ends.high[0])}` : `≥ ${plusMinus(ends.low)}`;
}

/* An axis from low to high with about so many ticks, at multiples of 1, 2 or 5. */
function linear(low, high, title, { many = 5, margin = 0.06, integer = false } = {}) {
  const spread = high - low || Math.abs(high) || 1;
  const [from, to] = [low - margin * spread, high + margin * spread];
  const rough = (to - from) / many, unit = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(integer ? 1 : 0, unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough));
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(from / step - 1e-9), last = Math.floor(to / step + 1e-9);
  const ticks = Array.from({ length: last - first + 1 }, (_, place) => (first + place) * step);
  return { range: [from, to], title, ticks: ticks.map((value) => [value, signed(value.toFixed(decimals))]) };
}

/* A gap below a hundredth of a nat does not fill a chart with its rounding errors. */
function gapAxis(values) {
  const high = Math.max(...values), low = Math.min(0, ...values);
  return high < 0.01 ? linear(-0.01, 0.1, "gap, nats", { margin: 0 }) : linear(low, high, "gap, nats", { margin: 0.05 });
}
const logarithmic = (values) => Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) >= 8;

/* Pixels of a value between two ends. */
function scaled(axis, from, to) {
  const f = axis.log ? Math.log : Number, [low, high] = axis.range.map(f);
  return (value) => from + ((f(value) - low) / (high - low)) * (to - from);
}

const POLYGONS = {
  diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]], up: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]], square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  left: [[-1.2, 0], [0.9, -1.1], [0.9, 1.1]], right: [[1.2, 0], [-0.9, -1.1], [-0.9, 1.1]],
};
const DRAWN = {
  line({ points, shade, thickness = 1.6, opacity = 1, shift = 0, bent = false }, x, y) {
    let path = "", before = null;
    for (const point of points) {
      const [a, b] = point ? [x(point[0]) + shift, y(point[1])] : [];
      if (!point) before = null;
      else if (before && bent) path += `C${(before[0] + a) / 2} ${before[1]} ${(before[0] + a) / 2} ${b} ${a} ${b}`;
      else path += `${before ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`;
      if (point) before = [a, b];
    }
    return node("path", { class: "line", d: path, style: { fill: "none", stroke: shade, strokeWidth: thickness, opacity } });
  },
  dot({ at, shade, symbol = "circle", size = 4.5, shift = 0 }, x, y) {
    const [a, b] = [x(at[0]) + shift, y(at[1])], style = { fill: shade };
    if (symbol === "circle") return node("circle", { class: "dot", cx: a, cy: b, r: size, style });
    return node("polygon", { class: "dot", points: POLYGONS[symbol].map(([dx, dy]) => `${a + size * dx},${b + size * dy}`).join(" "), style });
  },
  whisker({ from, to, shade, shift = 0, cap = 3 }, x, y) {
    const [a, b, c, d] = [x(from[0]), y(from[1]), x(to[0]), y(to[1])], upright = from[0] === to[0];
    const [u, v] = upright ? [cap, 0] : [0, cap], [s, t] = upright ? [shift, 0] : [0, shift];
    const ends = [[a + s, b + t], [c + s, d + t]].map(([p, q]) => `M${p - u} ${q - v}L${p + u} ${q + v}`).join("");
    return node("path", { class: "whisker", d: `M${a + s} ${b + t}L${c + s} ${d + t}${ends}`, style: { fill: "none", stroke: shade, strokeWidth: 1.2 } });
  },
  bar({ from, to, row, thickness, shade, opacity = 1 }, x, y) {
    const [a, b] = [x(from), x(to)].sort((one, other) => one - other);
    return node("rect", { class: "bar", x: a, y: y(row) - thickness / 2, width: b - a, height: thickness, style: { fill: shade, opacity } });
  },
  text({ at, text, anchor = "start", move = [0, 0], bold = false, size = FONT - 1 }, x, y) {
    const place = { x: x(at[0]) + move[0], y: y(at[1]) + move[1], "text-anchor": anchor, "font-size": size };
    return node("text", { class: "label", ...place, style: { fill: "var(--ink)", fontWeight: bold ? 600 : 400 } }, text);
  },
};

/* One chart of a width: its axes, then its marks in their order. */
function chart(width, { height, x, y, marks, label }) {
  const named = y.ticks.map(([, text]) => wide(text));
  const left = (y.title ? 20 : 2) + Math.max(0, ...named) + 8, bottom = (x.title ? 20 : 0) + (x.ticks.length ? 20 : 4);
  const [right, top] = [width - 14, 10], across = scaled(x, left, right), down = scaled(y, height - bottom, top);
  const svg = node("svg", { class: "chart", role: "img", "aria-label": label, width, height, viewBox: `0 0 ${width} ${height}` });
  const say = (text, attributes) => node("text", { class: "tick", "font-size": FONT, style: { fill: "var(--quiet)" }, ...attributes }, text);
  const rule = (a, b, c, d) => node("path", { class: "grid", d: `M${a} ${b}L${c} ${d}`, style: { stroke: "var(--line)" } });
  let taken = -Infinity;
  for (const [value, text] of x.ticks) {
    const at = across(value), half = wide(text) / 2;
    if (x.grid !== false) svg.append(rule(at, top, at, height - bottom));
    // words that would touch those before them are left out
    if (at - half < taken + 6) continue;
    taken = at + half;
    svg.append(say(text, { x: at, y: height - bottom + 16, "text-anchor": at + half > width ? "end" : "middle" }));
  }
  for (const [value, text] of y.ticks) {
    if (y.grid !== false) svg.append(rule(left, down(value), right, down(value)));
    svg.append(say(text, { x: left - 8, y: down(value) + 4, "text-anchor": "end" }));
  }
  if (x.title) svg.append(say(x.title, { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }));
  if (y.title) svg.append(say(y.title, { transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }));
  for (const mark of marks) {
    const element = DRAWN[mark.kind](mark, across, down);
    if (mark.tip) element.dataset.tip = mark.tip;
    svg.append(element);
  }
  return svg;
}

/* Words beside the pointer, for marks that have some; the tables hold the same numbers. */
const tip = made("div", "", { className: "tip", hidden: true });
document.body.append(tip);
addEventListener("pointermove", ({ target, clientX, clientY }) => {
  const text = target.dataset?.tip;
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(clientX + 12, document.documentElement.clientWidth - width - 4))}px`;
  tip.style.top = `${clientY + height + 20 > innerHeight ? clientY - height - 10 : clientY + 14}px`;
});

/* One colour for each series, toggled in a legend of buttons. */
function legend(figure, series) {
  const place = figure.element.querySelector(".legend");
  if (!place.children.length && series.length > 1) {
    place.replaceChildren(...series.map((name, index) => {
      const button = made("button", "", { type: "button" }), swatch = made("i");
      swatch.style.background = colour(index);
      button.append(swatch, name);
      button.addEventListener("click", () => {
        if (!figure.off.delete(name)) figure.off.add(name);
        draw(figure);
      });
      return button;
    }));
  }
  [...place.children].forEach((button, index) => { button.ariaPressed = String(!figure.off.has(series[index])); });
}

function key(figure, entries) {
  figure.element.querySelector(".legend").replaceChildren(...entries.map(([name, shade]) => {
    const item = made("span"), swatch = made("i");
    swatch.style.background = shade;
    item.append(swatch, name);
    return item;
  }));
}

/* The gap of some runs: a thick line from end to end, whiskers of an error beyond, a symbol for its kind. */
function gaps(rows, shade, x, ends, shift = 0) {
  return rows.flatMap((row) => {
    const gap = ends(row), at = x(row), tip = `${row.label}\ngap ${words(gap)}`, marks = [];
    if (gap.high) marks.push({ kind: "line", points: [[at, gap.low[0]], [at, gap.high[0]]], shade, thickness: 6, opacity: 0.45, shift });
    if (upper(gap) > lower(gap)) marks.push({ kind: "whisker", from: [at, lower(gap)], to: [at, upper(gap)], shade, shift });
    return [...marks, { kind: "dot", at: [at, centre(gap)], shade, symbol: SYMBOLS[kindOf(gap)], shift, tip }];
  });
}

function gapAgainstK(figure, set) {
  const rows = set.rows.filter((row) => row.gap && row.k !== null), series = unique(rows.map((row) => row.series));
  if (!rows.length) return null;
  legend(figure, series);
  const ks = unique(rows.map((row) => row.k)).sort((a, b) => a - b), log = ks.length > 1 && logarithmic(ks);
  const marks = series.flatMap((name, place) => {
    const some = rows.filter((row) => row.series === name && shown.has(row.run) && !figure.off.has(name));
    const shift = (place - (series.length - 1) / 2) * Math.min(8, 48 / series.length), own = ks.filter((k) => some.some((row) => row.k === k));
    const points = own.map((k) => [k, mean(some.filter((row) => row.k === k).map((row) => centre(row.gap)))]);
    return [{ kind: "line", points, shade: colour(place), opacity: 0.7, shift }, ...gaps(some, colour(place), (row) => row.k, (row) => row.gap, shift)];
  });
  const apart = 0.1 * (ks.at(-1) - ks[0]) || 1, range = log ? [ks[0] / 1.3, ks.at(-1) * 1.3] : [ks[0] - apart, ks.at(-1) + apart];
  return { height: 340, marks, x: { range, log, title: "K of training", ticks: ks.map((k) => [k, String(k)]) }, y: gapAxis(rows.map((row) => upper(row.gap))) };
}

function gapAgainstEpoch(figure, set) {
  const rows = set.rows.filter((row) => DATA.runs[row.run].history?.gap.some((gap) => gap !== null)), series = unique(rows.map((row) => row.series));
  if (!rows.length) return null;
  legend(figure, series);
  const some = rows.filter((row) => shown.has(row.run) && !figure.off.has(row.series)), last = (row) => DATA.runs[row.run].history.epoch.at(-1);
  const marks = some.flatMap((row) => {
    const { epoch, gap } = DATA.runs[row.run].history, shade = colour(series.indexOf(row.series));
    const points = epoch.map((at, place) => [at, gap[place]]).filter(([, value]) => value !== null);
    const tip = `${row.label}\ngap of the last validation ${nats(points.at(-1)[1])}`;
    const own = points.length > 1 ? { kind: "line", points, shade, opacity: 0.85, tip } : { kind: "dot", at: points[0], shade, tip };
    return [own, ...(row.gap ? gaps([row], shade, last, () => row.gap) : [])];
  });
  const highest = rows.map((row) => Math.max(...DATA.runs[row.run].history.gap, row.gap ? upper(row.gap) : 0)), most = Math.max(...rows.map(last));
  return { height: 340, marks, x: linear(Math.min(1, most), Math.max(most, 2), "epoch", { integer: true, margin: 0.03 }), y: gapAxis(highest) };
}

/* Rows with names: at the side where there is room, above each row on a phone. */
function named(rows, width) {
  const text = rows.map((row) => short(row.label)), range = [rows.length - 0.5, narrow(width) ? -0.8 : -0.5];
  if (!narrow(width)) return [{ range, ticks: text.map((name, place) => [place, name]), grid: false }, [], 30];
  return [{ range, ticks: [], grid: false }, (left) => text.map((name, place) => ({ kind: "text", at: [left, place - 0.3], text: name })), 46];
}

function best(set, wanted) {
  const rows = set.rows.filter((row) => wanted(row) && shown.has(row.run));
  return rows.sort((a, b) => (b.log_px?.low[0] ?? -Infinity) - (a.log_px?.low[0] ?? -Infinity)).slice(0, MOST_ROWS);
}

function bracket(figure, set, width) {
  const rows = best(set, (row) => row.elbo && row.log_px), [blue, orange, green, purple] = [0, 1, 2, 3].map(colour);
  const evaluated = set.source === "evaluation", middle = evaluated ? (row) => row.l_k : (row) => row.bound;
  key(figure, [["ELBO", blue], [evaluated ? "L_K, importance sampling" : "bound at the k of training", purple], ["best lower bound, or exact", green], ...(rows.some((row) => row.log_px.high) ? [["best upper bound", orange]] : [])]);
  if (set.rows.length > MOST_ROWS && rows.length === MOST_ROWS) figure.element.querySelector(".legend").append(made("span", `the best ${MOST_ROWS} are drawn`));
  if (!rows.length) return null;
  const marks = rows.flatMap((row, place) => {
    const { low, high, exact } = row.log_px;
    const line = (from, to, shade, thickness, opacity) => ({ kind: "line", points: [[from[0], place], [to[0], place]], shade, thickness, opacity });
    const dot = (name, pair, shade, symbol, size) => pair && { kind: "dot", at: [pair[0], place], shade, symbol, size, tip: `${row.label}\n${name} ${plusMinus(pair)}` };
    return [
      line(row.elbo, low, blue, 2, 0.45), high && line(low, high, green, 9, 0.35),
      dot("ELBO", row.elbo, blue, "circle", 4.5), dot(evaluated ? "L_K" : "bound at k", middle(row), purple, "diamond", 4),
      exact ? dot("log p(x), exact", low, green, "square", 5) : dot("log p(x), from below", low, green, "right", 5), dot("log p(x), from above", high, orange, "left", 5),
    ].filter(Boolean);
  });
  const values = rows.flatMap((row) => [row.elbo, middle(row), row.log_px.low, row.log_px.high].filter(Boolean).map(([value]) => value));
  return inRows(rows, width, linear(Math.min(...values), Math.max(...values), "nats per datum", { many: narrow(width) ? 4 : 8 }), marks);
}

/* A chart of named rows; on a phone their names stand on the marks' own axis. */
function inRows(rows, width, x, marks) {
  const [y, above, step] = named(rows, width);
  return { height: 60 + step * rows.length, x, y, marks: [...(typeof above === "function" ? above(x.range[0]) : above), ...marks] };
}

function apart(figure, set, width) {
  const split = figure.element.dataset.split, total = (row) => row.apart[split].amortisation[0] + centre(row.apart[split].approximation);
  const wanted = set.rows.filter((row) => row.apart[split] && shown.has(row.run)).sort((a, b) => total(a) - total(b)).slice(0, MOST_ROWS);
  const rows = wanted.map((row) => ({ ...row.apart[split], label: row.label })), [blue, orange] = [colour(0), colour(1)];
  const open = (row) => (row.approximation.high ? Math.max(0, row.approximation.high[0] - row.approximation.low[0]) : 0);
  key(figure, [["amortisation", blue], ["approximation", orange], ...(rows.some(open) ? [["up to its upper end", `color-mix(in srgb, ${orange} 40%, transparent)`]] : [])]);
  if (!rows.length) return null;
  const thickness = narrow(width) ? 16 : 18;
  const marks = rows.flatMap((row, place) => {
    const first = row.amortisation[0], second = first + row.approximation.low[0];
    const tip = `${row.label}, ${row.n} data\namortisation ${plusMinus(row.amortisation)}\napproximation ${words(row.approximation)}`;
    const bar = (from, to, shade, opacity) => ({ kind: "bar", from, to, row: place, thickness, shade, opacity, tip });
    const whisker = (at, error, shift) => error && { kind: "whisker", from: [at - error, place], to: [at + error, place], shade: "var(--ink)", shift };
    return [
      bar(0, first, blue), bar(first, second, orange), open(row) && bar(second, second + open(row), orange, 0.4),
      whisker(first, row.amortisation[1], -4), whisker(second, row.approximation.low[1], 4),
    ].filter(Boolean);
  });
  const ends = rows.flatMap((row) => [row.amortisation[0], row.amortisation[0] + upper(row.approximation)]);
  return inRows(rows, width, linear(Math.min(0, ...ends), Math.max(...ends), "nats per datum", { margin: 0.03, many: narrow(width) ? 4 : 6 }), marks);
}

/* Parallel coordinates of words and numbers: every axis runs from 0 to 1. */
const rounded = (value) => (typeof value === "number" ? Math.round(value * 1e4) / 1e4 + 0 : value);
function scale(values) {
  const known = unique(values.filter((value) => value !== null && value !== ""));
  const numeric = known.every((value) => Number.isFinite(Number(value)));
  const sorted = known.sort(numeric ? (a, b) => a - b : undefined);
  if (sorted.length < 7) return { at: (value) => (sorted.length > 1 ? sorted.indexOf(value) / (sorted.length - 1) : 0.5), ticks: sorted.map((value) => [value, typeof value === "number" && !Number.isInteger(value) ? nats(value) : value]) };
  if (!numeric) return { at: (value) => sorted.indexOf(value) / (sorted.length - 1), ticks: sorted.map((value) => [value, value]) };
  const log = logarithmic(sorted.map(Number)), f = log ? Math.log : Number, [low, high] = [f(sorted[0]), f(sorted.at(-1))];
  const between = [0, 0.25, 0.5, 0.75, 1].map((share) => { const at = low + share * (high - low); return log ? Math.exp(at) : at; });
  return { at: (value) => (f(value) - low) / (high - low || 1), ticks: between.map((value) => [value, Number.isInteger(Number(sorted[0])) && log ? String(Math.round(value)) : nats(value)]) };
}

function parallel(figure, set) {
  const rows = set.rows.map((row, place) => ({ ...row, place })).filter((row) => row.gap);
  if (rows.length < 2) return null;
  const number = (pick) => rows.map(pick);
  const axes = [
    ...set.axes.map(({ name, values }) => ({ name, values: rows.map((row) => values[row.place]) })),
    { name: "K", values: number((row) => row.k) },
    { name: "log p(x)", values: number((row) => (row.log_px ? centre(row.log_px) : null)) },
    { name: "gap", values: number((row) => centre(row.gap)) },
  ].map((axis) => ({ ...axis, values: axis.values.map(rounded) })).map((axis) => ({ ...axis, ...scale(axis.values) }));
  const tight = axes.at(-1), end = axes.length - 1;
  const shade = (share) => `color-mix(in oklab, ${colour(1)} ${Math.round(100 * share)}%, ${colour(0)})`;
  const nudge = (place, axis) => (axes[axis].ticks.length < 7 && axis < end - 1 ? ((place * 0.618) % 1 - 0.5) * 0.05 : 0);
  const lines = rows.map((row, place) => ({
    kind: "line", bent: true, opacity: 0.8, thickness: 2, shade: shade(tight.at(tight.values[place])), tip: `${row.label}\ngap ${words(row.gap)}`,
    points: axes.map((axis, i) => (axis.values[place] === null || axis.values[place] === "" ? null : [i, axis.at(axis.values[place]) + nudge(place, i)])).filter(Boolean),
  })).filter((_, place) => shown.has(rows[place].run));
  const side = (i) => (i === end ? { anchor: "end", move: [-6, 4] } : { move: [6, 4] });
  const poles = axes.map((_, i) => ({ kind: "line", points: [[i, -0.03], [i, 1.03]], shade: "var(--quiet)", thickness: 1 }));
  const texts = axes.flatMap((axis, i) => [
    { kind: "text", at: [i, 1.13], text: axis.name, anchor: i === end ? "end" : i ? "middle" : "start", bold: true, size: FONT },
    ...axis.ticks.map(([value, text]) => ({ kind: "text", at: [i, axis.at(value)], text: short(String(text), 18), ...side(i) })),
  ]);
  key(figure, [["small gap", shade(0)], ["large gap", shade(1)]]);
  const bare = { ticks: [], grid: false };
  return { least: 92 * axes.length, height: 340, marks: [...poles, ...lines, ...texts], x: { ...bare, range: [-0.04, end + 0.04] }, y: { ...bare, range: [-0.06, 1.2] } };
}

const PLOTS = { gap_k: gapAgainstK, gap_epoch: gapAgainstEpoch, bracket, apart, parallel };
const EMPTY = {
  gap_k: "No gap is known.", gap_epoch: "No gap was validated.", bracket: "No bound on log p(x) is known.",
  apart: "Not taken apart.", parallel: "No two runs have a gap.",
};

function draw(figure, width) {
  const { plot, set } = figure.element.dataset, place = figure.element.querySelector(".canvas");
  const seen = width ?? place.clientWidth, label = figure.element.querySelector("strong").textContent;
  const found = PLOTS[plot](figure, set.startsWith("waiting") ? DATA.waiting[set.slice(8)] : DATA.sets[set], seen);
  if (found?.marks.length) {
    const svg = chart(Math.max(seen, width ? 0 : found.least ?? 0), { ...found, label: `${label}; the numbers are in the table above.` });
    place.replaceChildren(svg);
  } else {
    place.replaceChildren(made("p", shown.size < DATA.runs.length || figure.off.size ? "Nothing is left of it under this filter." : EMPTY[plot], { className: "empty" }));
  }
  // what scrolls must be reached by a key, and say what it is
  const scrolls = place.scrollWidth > place.clientWidth;
  place.nextElementSibling.hidden = !scrolls;
  Object.assign(place, scrolls ? { tabIndex: 0, role: "region", ariaLabel: label } : { tabIndex: -1, role: null, ariaLabel: null });
}
