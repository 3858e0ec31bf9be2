"use strict";
// Asks for the states of the runs once a second and shows them. Everything from a run is put in as text, never as HTML.

const INTERVAL_MS = 1000;
const SVG = "http://www.w3.org/2000/svg";
const PLOT = { width: 440, height: 240, left: 62, right: 10, top: 12, bottom: 24 };
let chosen = 0;
let known = [];

const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function makeSvg(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function show(value) {
  if (typeof value === "string") return value; // NaN and the infinities
  if (value === null || value === undefined) return "-";
  if (value === 0 || Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return Math.abs(value) < 1e-4 ? value.toExponential(2) : String(+value.toPrecision(3));
}

const percent = (share) => (share === null || share === undefined ? "" : `${Math.round(100 * share)} %`);
const accuracy = (value) => (value === null ? "-" : value.toFixed(4));
const clock = (seconds) => (seconds === null ? "" : new Date(1000 * seconds).toLocaleTimeString());

function duration(seconds) {
  if (seconds === null) return "";
  const minutes = Math.floor(Math.round(seconds) / 60);
  const rest = String(Math.round(seconds) % 60).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

function showAll() {
  chosen = Math.min(chosen, known.length - 1);
  byId("list").hidden = known.length < 2;
  showList();
  showRun(known[chosen]);
  byId("run").hidden = false;
}

function showList() {
  const rows = byId("rows");
  while (rows.children.length < known.length) rows.append(makeRow(rows.children.length));
  known.forEach((run, place) => {
    const [name, ...cells] = rows.children[place].children;
    name.firstChild.textContent = run.name;
    name.firstChild.setAttribute("aria-pressed", String(place === chosen));
    const texts = [run.state, percent(run.progress), show(run.loss), accuracy(run.accuracy), duration(run.seconds_left)];
    cells.forEach((cell, column) => { cell.textContent = texts[column]; });
    cells[0].className = `state ${run.state}`;
  });
}

function makeRow(place) {
  const button = make("button", { type: "button" });
  button.addEventListener("click", () => choose(place));
  return make("tr", {}, make("td", {}, button), ...Array.from({ length: 5 }, () => make("td")));
}

function showRun(run) {
  const isBusy = run.state === "running" || run.state === "recovering";
  const quiet = isBusy && run.quiet_s > 45 ? `, nothing new for ${duration(run.quiet_s)}` : "";
  setText("name", run.name);
  setText("state", run.state + quiet);
  byId("state").className = `state ${run.state}`;
  setText("url", run.run);
  setText("detail", run.detail);
  byId("detail").className = `detail ${run.state}`;
  setText("note", run.note || "");
  setText("digest", run.digest ? `digest ${run.digest}` : "");
  document.title = `${percent(run.progress)} ${run.name}, ${run.state}`.trim();
  showMeter(byId("progress"), { done: run.progress || 0 }, `${percent(run.progress) || "unknown"} done`);
  showTiles(run);
  showPlots(run.curves);
  showTimes(run);
  showWorkers(run);
  showHappenings(run.happenings);
}

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function showTiles(run) {
  const of = run.num_steps ? ` of ${show(run.num_steps)}` : "";
  const epochs = run.num_epochs ? ` of ${show(run.num_epochs)}` : "";
  const tiles = [
    [show(run.step), `steps done${of}${run.epoch ? `; epoch ${show(run.epoch)}${epochs}` : ""}`],
    [show(run.loss), `training loss${run.validation_loss === null ? "" : `; validation ${show(run.validation_loss)}`}`],
  ];
  if (run.accuracy !== null) tiles.push([accuracy(run.accuracy), `accuracy (validation); best ${accuracy(run.best_accuracy)}`]);
  if (run.steps_per_second !== null) tiles.push([show(run.steps_per_second), `steps a second; ${show(run.examples_per_second)} examples`]);
  if (run.seconds_left !== null) tiles.push([duration(run.seconds_left), "left at this speed"]);
  byId("tiles").replaceChildren(...tiles.map(([value, what]) => make("div", { class: "tile" }, make("b", {}, value), make("span", {}, what))));
}

function showMeter(svg, shares, label) {
  svg.setAttribute("viewBox", "0 0 100 4");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-label", label);
  svg.replaceChildren(makeSvg("rect", { x: 0, y: 0, width: 100, height: 4 }));
  let x = 0;
  Object.values(shares).forEach((share, part) => {
    svg.append(makeSvg("rect", { x, y: 0, width: 100 * share, height: 4, class: `part-${part}` }));
    x += 100 * share;
  });
}

function showTimes(run) {
  const at = run.accounts_step === null ? "" : ` (at step ${show(run.accounts_step)})`;
  const recovered = run.recoveries ? `, recovered ${run.recoveries} time${run.recoveries === 1 ? "" : "s"}` : "";
  const parts = [...describeShares("One step, of late", run.shares), ...describeShares(`The whole run${at}${recovered}`, run.accounts)];
  byId("times").replaceChildren(...(parts.length ? parts : ["nothing is known yet"]));
}

function describeShares(title, shares) {
  const names = Object.keys(shares);
  if (!names.length) return [];
  const meter = makeSvg("svg", { class: "meter", role: "img" });
  showMeter(meter, shares, names.map((name) => `${name} ${percent(shares[name])}`).join(", "));
  const keys = names.map((name, part) => make("li", {}, make("span", { class: `key part-${part}` }), `${name} ${percent(shares[name])}`));
  return [make("p", {}, title), meter, make("ul", { class: "legend" }, ...keys)];
}

function showWorkers(run) {
  const parts = [];
  if (run.workers !== null) parts.push(`${run.workers} worker${run.workers === 1 ? "" : "s"}`);
  if (run.evenness !== null && run.workers > 1) parts.push(`${percent(run.evenness)} even (mean computing time over the slowest's)`);
  if (run.division) parts.push(`microbatches ${run.division.join(", ")}`);
  if (run.members.length) parts.push(`on ${run.members.join(", ")}`);
  if (run.checkpoint_step !== null) parts.push(`newest checkpoint: step ${show(run.checkpoint_step)} at ${clock(run.checkpoint_time)}`);
  setText("workers", parts.join("; ") || "none yet");
}

function showHappenings(happenings) {
  byId("happenings").replaceChildren(...happenings.toReversed().map((one) => make(
    "tr", one.is_trouble ? { class: "trouble" } : {},
    make("td", {}, clock(one.time)), make("td", {}, one.step === null ? "" : show(one.step)), make("td", {}, one.text),
  )));
}

function showPlots(curves) {
  const plots = [];
  if (curves.loss.length > 1) plots.push(drawPlot("loss", [["training", curves.loss], ["validation", curves.validation_loss]]));
  if (curves.accuracy.length > 1) plots.push(drawPlot("accuracy", [["validation", curves.accuracy]]));
  byId("plots").replaceChildren(...plots);
}

function drawPlot(name, curves) {
  const points = curves.flatMap(([, curve]) => curve);
  const ys = points.map(([, y]) => y);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const isLog = low > 0 && high > 30 * low;
  const place = (y) => (isLog ? Math.log(y) : y);
  const [first, last] = [Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x))];
  const x = (value) => PLOT.left + ((value - first) / (last - first || 1)) * (PLOT.width - PLOT.left - PLOT.right);
  const y = (value) => PLOT.top + ((place(high) - place(value)) / (place(high) - place(low) || 1)) * (PLOT.height - PLOT.top - PLOT.bottom);
  const svg = makeSvg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img" });
  const newest = curves.filter(([, curve]) => curve.length).map(([label, curve]) => `${label} ${show(curve.at(-1)[1])}`).join(", ");
  svg.setAttribute("aria-label", `${name} by step, now ${newest}`);
  for (const share of [0, 0.5, 1]) {
    const value = isLog ? Math.exp(place(low) + share * (place(high) - place(low))) : low + share * (high - low);
    svg.append(makeSvg("line", { x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: y(value), y2: y(value), class: "grid" }));
    svg.append(makeSvg("text", { x: PLOT.left - 6, y: y(value) + 4, "text-anchor": "end" }, show(value)));
  }
  svg.append(makeSvg("text", { x: PLOT.left, y: PLOT.height - 6 }, `step ${show(Math.round(first))}`));
  svg.append(makeSvg("text", { x: PLOT.width - PLOT.right, y: PLOT.height - 6, "text-anchor": "end" }, show(Math.round(last))));
  curves.forEach(([, curve], number) => {
    const line = curve.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    svg.append(makeSvg("polyline", { points: line, class: `line curve-${number}`, "data-points": curve.length }));
  });
  const keys = curves.map(([label], number) => make("li", {}, make("span", { class: `key part-${number}` }), label));
  const caption = make("figcaption", {}, `${name}${isLog ? " (logarithmic)" : ""}`);
  return make("figure", {}, svg, caption, curves.length > 1 ? make("ul", { class: "legend" }, ...keys) : "");
}

function choose(place) {
  chosen = (place + known.length) % known.length;
  showAll();
}

document.addEventListener("keydown", (event) => {
  if (!known.length || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowRight") choose(chosen + 1);
  else if (event.key === "ArrowLeft") choose(chosen - 1);
  else if (/^[1-9]$/.test(event.key) && +event.key <= known.length) choose(+event.key - 1);
});

async function ask() {
  try {
    const answer = await fetchStates();
    if (answer) {
      known = answer.runs;
      showAll();
      document.documentElement.dataset.ready = "1";
    }
    const keys = known.length > 1 ? "; keys: ← → 1-9 another run" : "";
    setText("since", answer ? `live, ${clock(answer.time)}${keys}` : "distbp watch does not answer any more; what is shown is from before");
  } finally {
    setTimeout(ask, INTERVAL_MS);
  }
}

async function fetchStates() {
  try {
    const answer = await fetch("/state.json", { cache: "no-store" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null; // nobody answers
  }
}

ask();
