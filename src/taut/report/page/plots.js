const LIGHT = ["#0072B2", "#D55E00", "#008A65", "#B8548A", "#B07D00", "#3795C9", "#7A7200", "#6B6B6B"];
const DARK = ["#62B6EE", "#FF9248", "#3ECF9D", "#E79AC4", "#F0C24B", "#A8D8F5", "#D6CE4A", "#B5B5B5"];
const SYMBOLS = { exact: "circle", interval: "diamond", least: "triangle-up" };
const MOST_ROWS = 40;

const ink = (name) => {
  const probe = made("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};
const colour = (place) => (printing || !dark() ? LIGHT : DARK)[place % LIGHT.length];
const say = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, most = 38) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const nats = (value) => (value === null || value === undefined ? "" : value.toFixed(3).replace("-", "−").replace(/^−(0\.0+)$/, "$1"));
const narrow = () => !printing && innerWidth < 640;
const unique = (values) => [...new Set(values)];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
let printing = false;

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

function layout(height, more = {}) {
  const axis = { gridcolor: ink("line"), linecolor: ink("line"), zerolinecolor: ink("line"), tickcolor: ink("line"), automargin: true, ticks: "", ticklabelstandoff: 4, title: { standoff: 8 } };
  return {
    height, margin: { l: 8, r: 12, t: 8, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink("quiet") }, showlegend: false, hovermode: "closest",
    hoverlabel: { bgcolor: ink("raised"), bordercolor: ink("line"), font: { color: ink("ink"), size: 12 }, align: "left" },
    dragmode: false, separators: ".,", ...more,
    xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

/* A gap below a hundredth of a nat does not fill a picture with its rounding errors. */
const gapAxis = (rows) => ({ title: titled("gap, nats"), ...(Math.max(...rows) < 0.01 ? { range: [-0.01, 0.1] } : { rangemode: "tozero" }) });
const titled = (text) => ({ text, standoff: 8 });
const logarithmic = (values) => Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) >= 8;

/* One colour for each series, toggled in a legend of buttons. */
function legend(figure, series) {
  const place = figure.element.querySelector(".legend");
  if (!place.children.length && series.length > 1) {
    place.replaceChildren(...series.map((name) => {
      const button = made("button", "", { type: "button" });
      button.append(made("i"), name);
      button.addEventListener("click", () => {
        if (!figure.off.delete(name)) figure.off.add(name);
        draw(figure);
      });
      return button;
    }));
  }
  [...place.children].forEach((button, index) => {
    button.ariaPressed = String(!figure.off.has(series[index]));
    button.firstChild.style.background = colour(index);
  });
}

function key(figure, entries) {
  figure.element.querySelector(".legend").replaceChildren(...entries.map(([name, shade]) => {
    const item = made("span"), swatch = made("i");
    swatch.style.background = shade;
    item.append(swatch, name);
    return item;
  }));
}

function bars(rows, shade, x, ends) {
  const hover = (row) => `<b>${say(row.label)}</b><br>gap ${words(ends(row))}`;
  return [
    {
      x: rows.map(x), y: rows.map((row) => centre(ends(row))), mode: "markers", type: "scatter", hovertemplate: "%{customdata}<extra></extra>", customdata: rows.map(hover),
      marker: { color: shade, size: 9, symbol: rows.map((row) => SYMBOLS[kindOf(ends(row))]) },
      error_y: {
        type: "data", symmetric: false, color: shade, thickness: 1.3, width: 4,
        array: rows.map((row) => Math.max(0, upper(ends(row)) - centre(ends(row)))), arrayminus: rows.map((row) => Math.max(0, centre(ends(row)) - lower(ends(row)))),
      },
    },
    {
      x: rows.flatMap((row) => [x(row), x(row), null]), y: rows.flatMap((row) => (ends(row).high ? [ends(row).low[0], ends(row).high[0], null] : [null, null, null])),
      mode: "lines", type: "scatter", hoverinfo: "skip", opacity: 0.45, line: { color: shade, width: 6 },
    },
  ];
}

function gapAgainstK(figure, set) {
  const rows = set.rows.filter((row) => row.gap && row.k !== null), series = unique(rows.map((row) => row.series));
  legend(figure, series);
  const ks = unique(rows.map((row) => row.k)).sort((a, b) => a - b), log = ks.length > 1 && logarithmic(ks);
  const apart = (place) => (place - (series.length - 1) / 2) * Math.min(0.05, 0.5 / series.length);
  const traces = series.flatMap((name, place) => {
    const some = rows.filter((row) => row.series === name && shown.has(row.run) && !figure.off.has(name));
    const x = (k) => (log ? k * Math.exp(apart(place)) : k + apart(place) * (ks.at(-1) - ks[0] || 4));
    const own = ks.filter((k) => some.some((row) => row.k === k));
    const line = {
      x: own.map(x), y: own.map((k) => mean(some.filter((row) => row.k === k).map((row) => centre(row.gap)))), mode: "lines", type: "scatter",
      hoverinfo: "skip", line: { color: colour(place), width: 1.5 }, opacity: 0.7,
    };
    return [line, ...bars(some, colour(place), (row) => x(row.k), (row) => row.gap)];
  });
  const range = log ? [Math.log10(ks[0]) - 0.15, Math.log10(ks.at(-1)) + 0.15] : [ks[0] - Math.max(0.6, 0.06 * (ks.at(-1) - ks[0])), ks.at(-1) + Math.max(0.6, 0.06 * (ks.at(-1) - ks[0]))];
  const xaxis = { title: titled("K of training"), type: log ? "log" : "linear", tickvals: ks, ticktext: ks.map(String), range };
  return rows.length && [traces, layout(360, { xaxis, yaxis: gapAxis(rows.map((row) => upper(row.gap))) })];
}

function gapAgainstEpoch(figure, set) {
  const rows = set.rows.filter((row) => DATA.runs[row.run].history?.gap.some((gap) => gap !== null)), series = unique(rows.map((row) => row.series));
  legend(figure, series);
  const some = rows.filter((row) => shown.has(row.run) && !figure.off.has(row.series));
  const traces = some.map((row) => {
    const { epoch, gap } = DATA.runs[row.run].history;
    return {
      x: epoch, y: gap, mode: epoch.length > 1 ? "lines" : "markers", type: "scatter", connectgaps: true, opacity: 0.85,
      line: { color: colour(series.indexOf(row.series)), width: 1.6 }, marker: { color: colour(series.indexOf(row.series)) },
      customdata: epoch.map(() => say(row.label)), hovertemplate: "<b>%{customdata}</b><br>epoch %{x}: %{y:.3f}<extra></extra>",
    };
  });
  const last = (row) => DATA.runs[row.run].history.epoch.at(-1);
  const tested = series.flatMap((name, place) => bars(some.filter((row) => row.gap && row.series === name), colour(place), last, (row) => row.gap));
  const longest = Math.max(...rows.map(last)), highest = rows.map((row) => Math.max(...DATA.runs[row.run].history.gap, row.gap ? upper(row.gap) : 0));
  return rows.length && [[...traces, ...tested], layout(360, { xaxis: { title: titled("epoch"), ...(longest <= 10 && { dtick: 1 }) }, yaxis: gapAxis(highest) })];
}

/* Rows with names: at the side where there is room, above each row on a phone. */
function named(rows) {
  const text = rows.map((row) => say(short(row.label)));
  if (!narrow()) return [{ tickvals: rows.map((_, place) => place), ticktext: text, range: [rows.length - 0.5, -0.5], showgrid: false, zeroline: false, tickfont: { color: ink("ink") } }, [], 30];
  const above = rows.map((_, place) => ({ text: text[place], x: 0, xref: "paper", y: place - 0.26, yref: "y", xanchor: "left", yanchor: "bottom", showarrow: false, font: { color: ink("ink"), size: 11 } }));
  return [{ showticklabels: false, range: [rows.length - 0.4, -0.95], showgrid: false, zeroline: false }, above, 46];
}

function best(set, wanted) {
  const rows = set.rows.filter((row) => wanted(row) && shown.has(row.run));
  return rows.sort((a, b) => (b.log_px?.low[0] ?? -Infinity) - (a.log_px?.low[0] ?? -Infinity)).slice(0, MOST_ROWS);
}

function bracket(figure, set) {
  const rows = best(set, (row) => row.elbo && row.log_px);
  const [blue, orange, green, purple] = [0, 1, 2, 3].map(colour), evaluated = set.source === "evaluation";
  const middle = evaluated ? (row) => row.l_k : (row) => row.bound;
  key(figure, [["ELBO", blue], [evaluated ? "L_K, importance sampling" : "bound at the k of training", purple], ["best lower bound, or exact", green], ...(rows.some((row) => row.log_px.high) ? [["best upper bound", orange]] : [])]);
  if (set.rows.length > MOST_ROWS && rows.length === MOST_ROWS) figure.element.querySelector(".legend").append(made("span", `the best ${MOST_ROWS} are drawn`));
  const dots = (name, pick, shade, symbol, size) => {
    const some = rows.map((row, place) => [pick(row), place, row]).filter(([pair]) => pair);
    return {
      x: some.map(([pair]) => pair[0]), y: some.map(([, place]) => place), mode: "markers", type: "scatter", marker: { color: shade, symbol, size },
      customdata: some.map(([pair, , row]) => `<b>${say(row.label)}</b><br>${name} ${plusMinus(pair)}`), hovertemplate: "%{customdata}<extra></extra>",
    };
  };
  const lines = (from, to, shade, width, opacity) => ({
    x: rows.flatMap((row) => (to(row) ? [from(row)[0], to(row)[0], null] : [null, null, null])), y: rows.flatMap((_, place) => [place, place, null]),
    mode: "lines", type: "scatter", hoverinfo: "skip", opacity, line: { color: shade, width },
  });
  const traces = [
    lines((row) => row.elbo, (row) => row.log_px.low, blue, 2, 0.45),
    lines((row) => row.log_px.low, (row) => row.log_px.high, green, 9, 0.35),
    dots("ELBO", (row) => row.elbo, blue, "circle", 9),
    dots(evaluated ? "L_K" : "bound at k", middle, purple, "diamond", 8),
    dots("log p(x), from below", (row) => (row.log_px.exact ? null : row.log_px.low), green, "triangle-right", 11),
    dots("log p(x), from above", (row) => row.log_px.high, orange, "triangle-left", 11),
    dots("log p(x), exact", (row) => (row.log_px.exact ? row.log_px.low : null), green, "square", 9),
  ];
  const [yaxis, annotations, step] = named(rows);
  return rows.length && [traces, layout(70 + step * rows.length, { xaxis: { title: titled("nats per datum"), zeroline: false, tickformat: "" }, yaxis, annotations })];
}

function apart(figure, set) {
  const split = figure.element.dataset.split;
  const total = (row) => row.apart[split].amortisation[0] + centre(row.apart[split].approximation);
  const wanted = set.rows.filter((row) => row.apart[split] && shown.has(row.run)).sort((a, b) => total(a) - total(b)).slice(0, MOST_ROWS);
  const rows = wanted.map((row) => ({ ...row.apart[split], label: row.label }));
  const [blue, orange] = [colour(0), colour(1)], places = rows.map((_, place) => place);
  const amortised = (row) => row.amortisation[0], ends = (row) => row.approximation;
  const open = (row) => (ends(row).high ? Math.max(0, ends(row).high[0] - ends(row).low[0]) : 0);
  key(figure, [["amortisation", blue], ["approximation", orange], ...(rows.some(open) ? [["up to its upper end", `color-mix(in srgb, ${orange} 40%, transparent)`]] : [])]);
  const whiskers = (x, errors, shift) => ({
    type: "scatter", mode: "markers", x, y: places.map((place) => place + shift), hoverinfo: "skip", marker: { color: ink("ink"), size: 1 },
    error_x: { type: "data", array: errors.map((error) => error ?? 0), color: ink("ink"), thickness: 1.2, width: 3 },
  });
  const bar = (x, base, shade, name, opacity = 1) => ({
    type: "bar", orientation: "h", y: places, x, base, marker: { color: shade }, width: narrow() ? 0.46 : 0.6, hovertemplate: "%{customdata}<extra></extra>",
    customdata: rows.map((row) => `<b>${say(row.label)}</b>, ${row.n} data<br>amortisation ${plusMinus(row.amortisation)}<br>approximation ${words(ends(row))}`), name, opacity,
  });
  const traces = [
    bar(rows.map(amortised), places.map(() => 0), blue, "amortisation"),
    bar(rows.map((row) => ends(row).low[0]), rows.map(amortised), orange, "approximation"),
    bar(rows.map(open), rows.map((row) => amortised(row) + ends(row).low[0]), orange, "upper end", 0.4),
    whiskers(rows.map(amortised), rows.map((row) => row.amortisation[1]), -0.12),
    whiskers(rows.map((row) => amortised(row) + ends(row).low[0]), rows.map((row) => ends(row).low[1]), 0.12),
  ];
  const [yaxis, annotations, step] = named(rows);
  return rows.length && [traces, layout(70 + step * rows.length, { barmode: "overlay", xaxis: { title: titled("nats per datum"), rangemode: "tozero" }, yaxis, annotations })];
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
  if (rows.length < 2) return 0;
  const number = (pick) => rows.map(pick);
  const axes = [
    ...set.axes.map(({ name, values }) => ({ name, values: rows.map((row) => values[row.place]) })),
    { name: "K", values: number((row) => row.k) },
    { name: "log p(x)", values: number((row) => (row.log_px ? centre(row.log_px) : null)) },
    { name: "gap", values: number((row) => centre(row.gap)) },
  ].map((axis) => ({ ...axis, values: axis.values.map(rounded) })).map((axis) => ({ ...axis, ...scale(axis.values) }));
  const tight = axes.at(-1), [from, to] = [colour(0), colour(1)].map(rgb);
  const shade = (share) => `rgb(${from.map((one, i) => Math.round(one + share * (to[i] - one))).join(",")})`;
  const nudge = (place, axis) => (axes[axis].ticks.length < 7 && axis < axes.length - 2 ? ((place * 0.618) % 1 - 0.5) * 0.05 : 0);
  const traces = rows.map((row, place) => ({
    x: axes.map((_, i) => i), y: axes.map((axis, i) => (axis.values[place] === null || axis.values[place] === "" ? null : axis.at(axis.values[place]) + nudge(place, i))),
    mode: "lines", type: "scatter", connectgaps: true, opacity: 0.75, line: { color: shade(tight.at(tight.values[place])), width: 2, shape: "spline", smoothing: 0.5 },
    customdata: axes.map(() => `<b>${say(row.label)}</b><br>gap ${words(row.gap)}`), hovertemplate: "%{customdata}<extra></extra>",
  })).filter((_, place) => shown.has(rows[place].run));
  const annotations = axes.flatMap((axis, i) => [
    { text: `<b>${say(axis.name)}</b>`, x: i, y: 1.13, showarrow: false, font: { color: ink("ink") } },
    ...axis.ticks.map(([value, text]) => ({ text: say(short(String(text), 18)), x: i, y: axis.at(value), xanchor: i === axes.length - 1 ? "right" : "left", xshift: i === axes.length - 1 ? -6 : 6, showarrow: false, bgcolor: ink("ground"), borderpad: 1, opacity: 0.9, font: { size: 11 } })),
  ]);
  const shapes = axes.map((_, i) => ({ type: "line", x0: i, x1: i, y0: -0.03, y1: 1.03, line: { color: ink("quiet"), width: 1 } }));
  const bare = { showgrid: false, zeroline: false, showticklabels: false, showline: false, fixedrange: true };
  const least = printing ? 0 : 100 * axes.length;
  key(figure, [["small gap", shade(0)], ["large gap", shade(1)]]);
  return [traces, layout(380, { least, annotations, shapes, xaxis: { ...bare, range: [-0.15, axes.length - 0.85] }, yaxis: { ...bare, range: [-0.08, 1.2] } })];
}

const rgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
const DRAWN = { gap_k: gapAgainstK, gap_epoch: gapAgainstEpoch, bracket, apart, parallel };
const EMPTY = {
  gap_k: "No gap is known.", gap_epoch: "No gap was validated.", bracket: "No bound on log p(x) is known.",
  apart: "Not taken apart.", parallel: "Needs two runs or more.",
};

function draw(figure, width) {
  const { plot, set } = figure.element.dataset, canvas = figure.element.querySelector(".canvas");
  printing = width !== undefined;
  const found = DRAWN[plot](figure, set.startsWith("waiting") ? DATA.waiting[set.slice(8)] : DATA.sets[set]);
  if (!found || !found[0].some((trace) => trace.x.length)) {
    Plotly.purge(canvas);
    canvas.replaceChildren(made("p", shown.size < DATA.runs.length || figure.off.size ? "Nothing is left of it under this filter." : EMPTY[plot], { className: "empty" }));
  } else {
    if (!canvas.data) canvas.replaceChildren();
    const [traces, { least = 0, ...look }] = found;
    for (const axis of [look.xaxis, look.yaxis]) axis.fixedrange = true;
    look.width = width ?? Math.max(least, canvas.clientWidth);
    Plotly.react(canvas, traces, look, { displayModeBar: false, showTips: false });
  }
  printing = false;
}
