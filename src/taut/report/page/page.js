"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const every = (selector, from = document) => [...from.querySelectorAll(selector)];
const made = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);
const later = (act, wait) => { let timer; return () => { clearTimeout(timer); timer = setTimeout(act, wait); }; };

/* Which runs the filter lets through: every word must be found; word=value must be met exactly. */
const shown = new Set(DATA.runs.keys());

function searched() {
  const texts = DATA.runs.map((run) => [run.label, run.name, run.state]);
  for (const row of every("tr[data-run], article[data-run]")) texts[row.dataset.run].push(row.textContent);
  return texts.map((parts) => parts.join(" ").toLowerCase());
}

const texts = searched();
const tokens = texts.map((text) => new Set(text.split(/[\s,()]+/)));

function filter(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (word, run) => (word.includes("=") ? tokens[run].has(word) : texts[run].includes(word));
  shown.clear();
  DATA.runs.forEach((_, run) => { if (wanted.every((word) => fits(word, run))) shown.add(run); });
  for (const one of every("[data-run]")) one.hidden = !shown.has(Number(one.dataset.run));
  for (const one of every("[data-runs]")) one.hidden = !one.dataset.runs.split(" ").some((run) => shown.has(Number(run)));
  document.getElementById("matches").textContent = wanted.length ? `${shown.size} of ${DATA.runs.length} runs` : "";
  redraw();
  told();
}

const box = document.getElementById("filter");
box.addEventListener("input", later(() => filter(box.value), 150));

/* Sorting by a click on the head of a column; what has no value stays at the end. */
function sort(head) {
  const table = head.closest("table"), heads = every("thead th", table), place = heads.indexOf(head);
  const descending = head.ariaSort === "ascending";
  for (const other of heads) other.ariaSort = "none";
  head.ariaSort = descending ? "descending" : "ascending";
  const key = (row) => row.children[place].dataset.sort;
  const body = table.tBodies[0];
  const numeric = [...body.rows].every((row) => key(row) === undefined || !Number.isNaN(Number(key(row))));
  const order = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
  body.append(...[...body.rows].sort((one, other) => {
    const a = key(one), b = key(other);
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return descending ? order(b, a) : order(a, b);
  }));
}

for (const button of every(".runs thead button")) button.addEventListener("click", () => sort(button.closest("th")));

/* Dark and light. */
const media = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : media.matches);
const toggle = document.getElementById("theme");

function remembered(theme) {
  try {
    if (theme) localStorage.setItem("taut-theme", theme);
    return localStorage.getItem("taut-theme");
  } catch {
    return null; // a page from a file may have no storage
  }
}

const themed = () => { toggle.textContent = dark() ? "Light" : "Dark"; };

toggle.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  remembered(root.dataset.theme);
  themed();
});
media.addEventListener("change", themed);

/* Tables that are wider than the page say so. */
function told() {
  for (const table of every(".scroll")) table.nextElementSibling.hidden = table.scrollWidth <= table.clientWidth;
}

/* Pictures: written into the page as text, turned into images when they are looked at. */
let uris = null;

function gallery(kind) {
  uris ??= JSON.parse(document.getElementById("uris").textContent);
  const place = document.querySelector(".gallery"), word = document.querySelector(`.choices [data-kind="${kind}"]`).textContent;
  place.replaceChildren(...uris[kind].map(([run, uri]) => {
    const figure = made("figure"), button = made("button", "", { type: "button" }), label = DATA.runs[run].label;
    figure.dataset.run = run;
    figure.hidden = !shown.has(run);
    const alt = `${word}: ${label}`;
    button.append(made("img", "", { src: uri, alt, loading: "lazy", decoding: "async" }));
    button.addEventListener("click", () => enlarge(uri, alt));
    figure.append(button, made("figcaption", label));
    return figure;
  }));
  for (const button of every(".choices button")) button.ariaPressed = String(Number(button.dataset.kind) === kind);
}

function enlarge(uri, label) {
  const dialog = document.getElementById("large");
  Object.assign(dialog.querySelector("img"), { src: uri, alt: label });
  dialog.querySelector("figcaption").textContent = label;
  dialog.showModal();
}

for (const button of every(".choices button")) button.addEventListener("click", () => gallery(Number(button.dataset.kind)));

/* The charts are drawn at once, pictures when they come into sight. */
const figures = [];

function redraw(width) {
  for (const figure of figures) draw(figure, width);
}

function watch() {
  const look = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    look.disconnect();
    gallery(0);
  }, { rootMargin: "300px" });
  every("#pictures").forEach((section) => look.observe(section));
}

addEventListener("beforeprint", () => {
  if (document.getElementById("pictures") && !uris) gallery(0);
  redraw(PRINTED);
});
addEventListener("afterprint", () => redraw());

root.dataset.theme = remembered() ?? "";
if (!root.dataset.theme) delete root.dataset.theme;
addEventListener("load", () => {
  figures.push(...every(".plot").map((element) => ({ element, off: new Set() })));
  redraw();
  watch();
  themed();
  told();
  let width = innerWidth;
  addEventListener("resize", later(() => { if (innerWidth !== width) { width = innerWidth; redraw(); told(); } }, 150));
  root.dataset.ready = "true";
});
