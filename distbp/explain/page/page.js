"use strict";
// The lesson. `data` is what contents.py made; `state` is what the reader chose; everything is drawn from these two.

const data = JSON.parse($("data").textContent);
const last = data.layers.length - 1;
const state = { example: 0, layer: data.neuron[0], place: data.neuron[1], stage: 0, wishes: last, hebb: last };
const weights = [null, ...data.weights.map(numbers)];
const example = () => data.examples[state.example];
const passage = (layer, name) => numbers(example().layers[layer][name]);
const width = (layer) => data.layers[layer].drawn.length;
const isThinned = (layer) => width(layer) < data.layers[layer].size;
const isPicture = (layer) => layer === 0 && data.picture !== null;
const weight = (layer, j, k) => weights[layer][j * width(layer - 1) + k];
const labelOf = (shown) => (shown.label === null ? "" : String(shown.label));
const wantedPlace = () => Math.max(0, example().wanted.indexOf(Math.max(...example().wanted)));

function layerName(layer) {
  return layer === 0 ? "the input" : layer === last ? "the output layer" : `layer ${layer}`;
}

function neuronName(layer, place) {
  const layerData = data.layers[layer];
  if (isPicture(layer)) return `pixel ${Math.floor(layerData.drawn[place] / data.picture[1])},${layerData.drawn[place] % data.picture[1]}`;
  if (layer === last) return data.isClassification ? `output “${layerData.names[place]}”` : `output ${layerData.names[place]}`;
  return layer === 0 ? `input ${layerData.names[place]}` : `neuron ${layerData.names[place]} of layer ${layer}`;
}

const shortName = (layer, place) => (isPicture(layer) ? neuronName(layer, place) : data.layers[layer].names[place]);

// The wish of neuron j of a layer for neuron k before it: minus its delta times the weight between them.
const wish = (layer, j, k) => -passage(layer, "delta")[j] * weight(layer, j, k);
// What one example asks of that weight: minus delta times the activation it carries.
const weightNudge = (layer, j, k) => -passage(layer, "delta")[j] * passage(layer - 1, "a")[k];

function thumb(shown, size = 40) {
  const packed = data.pictures[shown.index];
  if (!data.picture) return null;
  const node = photo(packed, data.picture, `Picture of example ${shown.index}`, "thumb");
  node.style.width = node.style.height = `${size}px`;
  return node;
}

// ---------------------------------------------------------------------------------------------- choosing

function drawChooser() {
  const picks = data.examples.map((shown, i) => el("button", {
    type: "button", class: "pick", role: "radio", "aria-checked": i === state.example ? "true" : "false",
    tabindex: i === state.example ? 0 : -1, "data-index": shown.index, onclick: () => chooseExample(i),
    "aria-label": `Example ${shown.index}${labelOf(shown) && `, which is ${labelOf(shown)}`}, cost ${show(shown.cost)}`,
  }, thumb(shown), el("span", { class: data.picture ? "" : "plain" }, el("b", {}, labelOf(shown) || `#${shown.index}`), `cost ${show(shown.cost, 2)}`)));
  put($("examples"), ...picks);
}

function chooseExample(i, takeFocus = false) {
  state.example = (i + data.examples.length) % data.examples.length;
  drawAll();
  const pick = $("examples").children[state.example];
  if (takeFocus) pick.focus();
  const strip = $("examples");
  strip.scrollLeft = pick.offsetLeft - strip.clientWidth / 2 + pick.clientWidth / 2;
  say(`Example ${example().index}. ${verdict()}`);
}

function chooseNeuron(layer, place, takeFocus = false) {
  state.layer = layer;
  state.place = place;
  drawStage();
  drawWays();
  if (takeFocus) document.querySelector(`.node[data-layer="${layer}"][data-place="${place}"]`).focus();
}

function say(text) {
  $("live").textContent = text;
}

// ---------------------------------------------------------------------------------------------- 1: one example

function verdict() {
  const shown = example();
  if (!data.isClassification) return `Its cost is ${show(shown.cost)}.`;
  const is = shown.predicted === shown.label ? "and so it is" : `but it is ${labelOf(shown)}`;
  return `The network says ${shown.predicted}, ${is}.`;
}

function drawHeader() {
  const when = data.step === 0 ? "before training" : `after ${count(data.step)} steps of training`;
  $("run-line").textContent = `${data.run} · ${data.sizes.join("–")} ${data.activation} · ${count(data.numParameters)} weights and biases · ${when}`;
  $("lead").textContent = `Training asks one thing of each example: which way should every weight and bias move, and how much does it matter, so that the network is less wrong about me? Backpropagation finds all ${count(data.numParameters)} answers in one pass backwards. This page shows them, computed from the real network. Choose an example:`;
}

function drawOne() {
  const shown = example(), outputs = passage(last, "a"), nudges = passage(last, "nudge"), most = largest(nudges);
  const top = Math.max(largest(outputs), largest(shown.wanted));
  const rows = data.layers[last].names.map((name, j) => el("tr", { class: j === wantedPlace() && data.isClassification ? "wanted" : "" },
    el("th", { scope: "row" }, name),
    el("td", { class: "track first" }, data.isClassification ? shareBar(outputs[j], shown.wanted[j]) : push(outputs[j], top, "plain")),
    el("td", { class: "says", value: outputs[j] }, show(outputs[j])),
    el("td", { class: "soft" }, show(shown.wanted[j])),
    el("td", { class: "track" }, push(nudges[j], most)),
    el("td", { class: `nudge ${nudges[j] > 0 ? "up" : "down"}`, value: nudges[j] }, signed(nudges[j], 2))));
  const times = shown.cost / data.averageCost;
  put($("one-body"), el("div", { class: "one-grid" },
    el("div", {}, data.picture ? picture(shown) : inputList(shown)),
    el("div", {},
      el("p", { class: "big" }, verdict()),
      el("dl", { class: "facts" },
        fact("its cost", show(shown.cost), shown.cost, "cost"), fact("the average cost", show(data.averageCost), data.averageCost, "average"),
        fact("cost less than it", percent(shown.quantile)), fact("example", `${shown.index} of ${data.data}`)),
      el("p", { class: "small soft" }, times > 1.05 ? `It costs ${show(times, 2)} times the average, so it has much to ask for.` : times < 0.95 ? "It costs less than the average: it is nearly content, and asks for little." : "")),
    el("div", { class: "wide", style: "grid-column: 1 / -1" },
      el("div", { class: "scroll" }, el("table", { class: "outs" }, el("thead", {}, el("tr", {},
        el("th", { scope: "col" }, "output"), el("th", { class: "first" }), el("th", { scope: "col" }, "says"), el("th", { scope: "col" }, "wanted"), el("th", {}), el("th", { scope: "col" }, "wished for"))), el("tbody", {}, rows))),
      el("p", { class: "note" }, `${costFormula()} The wish of each output (right) is in proportion to how far off it is: what is far off pulls hard, what is nearly right hardly matters.${isThinned(last) ? ` ${width(last)} of ${data.layers[last].size} outputs are shown, those that are furthest off.` : ""}`))));
}

const shareBar = (share, wanted) => el("div", { class: "bar", "aria-hidden": "true" }, el("i", { style: `--v:${share}` }), wanted > 0 ? el("i", { class: "want", style: `--v:${wanted}` }) : null);

function costFormula() {
  return data.loss === "cross_entropy"
    ? "The cost is −log of the share that the right class gets. Softmax outputs move only together, so the wish is for the score z before it: wanted − says."
    : "The cost is the sum over the outputs of (says − wanted)². The wish for an output is minus its derivative: 2 (wanted − says).";
}

const fact = (name, text, value, key) => el("div", {}, el("dt", {}, name), el("dd", { value, "data-fact": key }, text));

function picture(shown) {
  return photo(data.pictures[shown.index], data.picture, `The input, a picture of ${data.picture[0]} by ${data.picture[1]} pixels${labelOf(shown) && `, showing ${labelOf(shown)}`}`, "picture");
}

function inputList() {
  const values = passage(0, "a"), most = largest(values);
  const rows = data.layers[0].names.map((name, k) => el("tr", {}, el("th", { scope: "row" }, clip(name, 14)), el("td", { style: "min-width:70px" }, push(values[k], most, "plain")), el("td", {}, show(values[k], 2))));
  return el("div", { class: "scroll" }, el("table", { class: "small" }, el("caption", { class: "soft small" }, "its inputs, scaled"), el("tbody", {}, rows)));
}

// ---------------------------------------------------------------------------------------------- 2: the network

function makeStages() {
  const stages = [{ kind: "forward", title: "Forward first", text: () => `${data.picture ? "The picture" : "The input"} goes in at the left. Each neuron adds up the activations before it, each times a weight, and its bias; how bright it is drawn is how active it is. ${verdict()}` }];
  stages.push({ kind: "off", reached: last, title: "How wrong is it?", text: () => { const shown = passage(last, "nudge"), j = wantedPlace(); return `Each output gets a wish: ▲ more, ▼ less, larger the further off it is. ${neuronName(last, j)} should be ${shown[j] > 0 ? "higher" : "lower"} (${signed(shown[j], 2)}). But outputs cannot be set by hand. Only weights and biases can.`; } });
  stages.push({ kind: "one", layer: last, reached: last, title: () => `What ${neuronName(last, focusOutput())} alone asks of ${layerName(last - 1)}`, text: () => `It would be ${passage(last, "delta")[focusOutput()] < 0 ? "higher" : "lower"} if the neurons that reach it through a positive weight were ${passage(last, "delta")[focusOutput()] < 0 ? "more" : "less"} active, and the others the other way round. Wishes are in proportion to the weights. Choose another output to hear its wishes.` });
  for (let layer = last; layer >= 1; layer--) {
    const before = layerName(layer - 1);
    stages.push({ kind: "all", layer, reached: layer - 1, title: layer === last ? "All outputs speak, and their wishes add up" : `The same again, one layer back: what is wanted of ${before}`,
      text: () => layer === last ? `Every other output has wishes for ${before} too. Added up, they are one wish for each neuron: that is −∂C/∂a, how the cost follows its activation. Where outputs disagree, they cancel.` : layer > 1 ? `The wishes for ${layerName(layer)} cannot be granted directly either. Passed on through ${layerName(layer)}'s own weights and added up, they become wishes for ${before}: this is the “back” in backpropagation.` : `The last sum reaches the input. Nobody may change the input, but these wishes show what would have made the network less wrong: blue should be brighter, orange darker.` });
  }
  stages.push({ kind: "weights", reached: 0, title: "What every weight is asked", text: () => "Now every wish meets the activation that its weight carries: the nudge of a weight is (wish of the neuron it leads to) × (activation of the neuron it comes from). The strongest join the most active neurons to those that should change most." });
  return stages;
}

const stages = makeStages();
const focusOutput = () => (state.layer === last ? state.place : wantedPlace());
const textOf = (value) => (typeof value === "function" ? value() : value);

function goTo(stage) {
  state.stage = Math.max(0, Math.min(stages.length - 1, stage));
  drawStage();
  say(`Step ${state.stage + 1} of ${stages.length}: ${textOf(stages[state.stage].title)}. ${textOf(stages[state.stage].text)}`);
}

// What is shown at the neurons of a layer in this stage: wishes in blue and orange, or nothing yet.
function wishesOf(layer, stage) {
  if (stage.kind === "one" && layer === last - 1) {
    return Array.from({ length: width(layer) }, (_, k) => wish(last, focusOutput(), k));
  }
  return stage.reached !== undefined && layer >= stage.reached ? passage(layer, "nudge") : null;
}

function edgeValues(layer, stage) {
  const rows = width(layer), columns = width(layer - 1);
  if (isPicture(layer - 1)) return null;
  const value = stage.kind === "weights" ? weightNudge : stage.kind === "all" && stage.layer === layer ? wish : stage.kind === "one" && stage.layer === layer ? (l, j, k) => (j === focusOutput() ? wish(l, j, k) : 0) : null;
  const read = value || ((l, j, k) => weight(l, j, k) * passage(l - 1, "a")[k]);
  return { isLit: value !== null, at: Array.from({ length: rows }, (_, j) => Array.from({ length: columns }, (_, k) => read(layer, j, k))) };
}

function measureStage() {
  const total = Math.max(300, $("network").clientWidth || 900), isNarrow = total < 620;
  const most = Math.max(...data.layers.map((_, layer) => (isPicture(layer) ? 0 : width(layer))));
  const row = isNarrow ? 25 : most > 12 ? 29 : 34, top = 46;
  const photoSize = data.picture ? (isNarrow ? Math.min(84, total * 0.22) : Math.min(190, total * 0.19)) : 0;
  const left = data.picture ? photoSize : (isNarrow ? 78 : 130), right = isNarrow ? 66 : 150;
  const height = Math.max(top + most * row + 12, data.picture ? top + 2 * photoSize + 60 : 0);
  const first = data.picture ? left + (isNarrow ? 44 : 110) : left + 20;
  const columns = data.layers.length - (data.picture ? 1 : 0);
  const gap = columns > 1 ? (total - right - first - 14) / (columns - 1) : 0;
  const x = (layer) => (isPicture(layer) ? photoSize : columns === 1 ? (first + total - right) / 2 : first + gap * (layer - (data.picture ? 1 : 0)));
  const y = (layer, place) => top + (height - top - 12) / 2 + (place - (width(layer) - 1) / 2) * Math.min(row, (height - top - 12) / width(layer));
  return { total, height, isNarrow, row, top, photoSize, x, y, radius: Math.min(row * 0.36, 10.5) };
}

function drawStage() {
  const stage = stages[state.stage], box = measureStage(), hadFocus = document.activeElement && document.activeElement.closest && document.activeElement.closest(".node");
  const parts = [];
  for (let layer = 1; layer <= last; layer++) parts.push(...drawEdges(layer, stage, box));
  if (data.picture) parts.push(...drawInput(stage, box));
  for (let layer = 0; layer <= last; layer++) {
    parts.push(layerTitle(layer, box));
    if (!isPicture(layer)) parts.push(...drawNodes(layer, stage, box));
  }
  put($("network"), svg("svg", { viewBox: `0 0 ${box.total} ${box.height}`, role: "group", "aria-label": `The network, ${textOf(stage.title)}. Arrow keys move between neurons.`, onkeydown: moveInNetwork }, parts),
    legend());
  if (hadFocus) document.querySelector(".node[tabindex='0']").focus();
  drawStepper(stage);
}

function drawStepper(stage) {
  $("stage-title").textContent = textOf(stage.title);
  $("stage-text").textContent = textOf(stage.text);
  $("back").disabled = state.stage === 0;
  $("next").disabled = state.stage === stages.length - 1;
  put($("dots"), ...stages.map((other, i) => el("li", {}, el("button", { type: "button", "aria-label": `Step ${i + 1}: ${textOf(other.title)}`, "aria-current": i === state.stage ? "step" : null, tip: textOf(other.title), onclick: () => { goTo(i); $("dots").children[i].firstChild.focus(); } }))));
  const thinned = data.layers.map((layer, i) => ({ layer, i })).filter(({ i }) => isThinned(i)).map(({ layer, i }) => `${width(i)} of ${layer.size} in ${layerName(i)}`);
  $("network-note").textContent = thinned.length ? `Not all neurons fit: drawn are ${thinned.join(", ")}, those that matter most to the cost of the examples on this page (largest wish × activation). All of them take part in every number.` : "Every neuron is drawn.";
}

function legend() {
  const hasNegative = data.activation !== "relu" && data.activation !== "sigmoid";
  return el("ul", { class: "legend" },
    el("li", {}, el("i", { class: "g", style: "--v:.05" }), "silent ", el("i", { class: "g", style: "--v:.95" }), "active", hasNegative ? [" ", el("i", { style: "background: var(--negative)" }), "negative"] : null),
    el("li", {}, el("span", { class: "up" }, "▲ blue: more"), " · ", el("span", { class: "down" }, "▼ orange: less")), el("li", {}, "width: how much"));
}

function layerTitle(layer, box) {
  const text = layer === 0 ? "input" : layer === last ? "output" : box.isNarrow ? `${layer}` : `layer ${layer}`;
  const x = isPicture(layer) ? box.photoSize / 2 : box.x(layer);
  const detail = isPicture(layer) ? `${data.picture[0]}×${data.picture[1]}` : isThinned(layer) ? (box.isNarrow ? `of ${data.layers[layer].size}` : `${width(layer)} of ${data.layers[layer].size}`) : `${width(layer)}`;
  return [svg("text", { x, y: 14, "text-anchor": "middle" }, text), svg("text", { x, y: 29, "text-anchor": "middle", class: "soft" }, detail)];
}

function drawEdges(layer, stage, box) {
  const edges = edgeValues(layer, stage);
  if (edges === null) return drawPictureEdges(layer, stage, box);
  const most = Math.max(...edges.at.map((row) => largest(row)));
  const found = [];
  edges.at.forEach((row, j) => row.forEach((value, k) => {
    const size = ratio(value, most);
    if (size < 0.02) return;
    const isChosen = state.layer === layer && state.place === j;
    found.push({ size, node: svg("path", {
      d: `M${box.x(layer - 1) + box.radius} ${box.y(layer - 1, k)}L${box.x(layer) - box.radius} ${box.y(layer, j)}`, value,
      class: `edge ${edges.isLit ? `lit ${sign(value)}` : "plain"}`, "data-edge": `${layer}-${j}-${k}`,
      "stroke-width": edges.isLit ? 0.4 + 3.4 * Math.sqrt(size) : 0.5 + 1.2 * size, opacity: edges.isLit ? 0.12 + 0.85 * size : (isChosen ? 0.25 + 0.6 * size : 0.05 + 0.35 * size) * (stage.kind === "forward" ? 1 : 0.45),
      tip: edges.isLit ? `${shortName(layer - 1, k)} → ${neuronName(layer, j)}\nweight ${show(weight(layer, j, k))}\n${stage.kind === "weights" ? `asked of the weight ${signed(value)}` : `wish for the activation before ${signed(value)}`}` : null,
    }) });
  }));
  return found.sort((a, b) => a.size - b.size).map((edge) => edge.node);
}

// From a picture there are too many weights to draw: a fan stands for all that lead to a neuron.
function drawPictureEdges(layer, stage, box) {
  const isLit = stage.kind === "weights" || (stage.kind === "all" && stage.layer === layer) || (stage.kind === "one" && layer === last);
  const deltas = passage(layer, "delta"), most = largest(deltas);
  const middle = box.top + box.photoSize / 2;
  return Array.from({ length: width(layer) }, (_, j) => {
    const size = isLit ? (stage.kind === "one" && j !== focusOutput() ? 0 : ratio(deltas[j], most)) : state.layer === layer && state.place === j ? 0.7 : 0.2;
    const x = box.x(layer) - box.radius, y = box.y(layer, j), start = box.photoSize + 4;
    const part = (j + 0.5) / width(layer), fan = box.top + 6 + part * (box.photoSize - 12);
    return size < 0.02 ? null : svg("path", { d: `M${start} ${fan}C${(start + x) / 2} ${fan} ${(start + x) / 2} ${y} ${x} ${y}`, class: `edge ${isLit ? `lit ${sign(-deltas[j])}` : "plain"}`, "stroke-width": isLit ? 0.4 + 3 * Math.sqrt(size) : 0.8, opacity: isLit ? 0.15 + 0.8 * size : 0.15 + 0.5 * size });
  }).filter(Boolean);
}

function drawInput(stage, box) {
  const size = box.photoSize;
  const image = (node, y, label) => svg("image", { href: node.toDataURL(), x: 0, y, width: size, height: size, role: "img", "aria-label": label });
  const parts = [image(picture(example()), box.top, "The input picture")];
  const alone = stage.kind === "one" && last === 1;
  if (stage.reached === 0 || alone) {
    const wishes = alone ? Array.from({ length: width(0) }, (_, k) => wish(last, focusOutput(), k)) : passage(0, "nudge");
    parts.push(image(heat(wishes, data.picture, ""), box.top + size + 34, "What is wished for each pixel: blue brighter, orange darker"),
      svg("text", { x: size / 2, y: box.top + size + 24, "text-anchor": "middle", class: "soft" }, box.isNarrow ? "wished for" : "wished for each pixel"));
  }
  return parts;
}

function drawNodes(layer, stage, box) {
  const activations = passage(layer, "a"), most = layer === last && data.isClassification ? 1 : largest(activations);
  const wishes = wishesOf(layer, stage), mostWished = wishes ? largest(wishes) : 0;
  return Array.from({ length: width(layer) }, (_, place) => {
    const x = box.x(layer), y = box.y(layer, place), isChosen = layer === state.layer && place === state.place, a = activations[place];
    const wished = wishes ? `, wished for ${signed(wishes[place])}` : "";
    const color = mix(parseColor("--off"), parseColor(a < 0 ? "--negative" : "--on"), Math.min(1, ratio(a, most)));
    const parts = [svg("circle", { class: "halo", cx: x, cy: y, r: box.radius + 4.5 }), svg("circle", { class: "body", cx: x, cy: y, r: box.radius, fill: `rgb(${color})` })];
    if (wishes) parts.push(arrow(x, y, wishes[place], ratio(wishes[place], mostWished), box, layer));
    if (layer === last) parts.push(outputLabel(place, x, y, box));
    if (layer === 0) parts.push(svg("text", { x: x - box.radius - 14, y: y + 4, "text-anchor": "end", class: box.isNarrow ? "soft" : "" }, clip(data.layers[0].names[place], box.isNarrow ? 9 : 15)));
    return svg("g", {
      class: "node", role: layer === 0 ? "img" : "button", tabindex: isChosen ? 0 : -1, "aria-pressed": layer === 0 ? null : String(isChosen), "data-layer": layer, "data-place": place, value: a,
      "aria-label": `${neuronName(layer, place)}: activation ${show(a)}${wished}`, tip: `${neuronName(layer, place)}\nactivation ${show(a)}${wishes ? `\nwished for ${signed(wishes[place])}` : ""}`,
      onclick: layer === 0 ? null : () => chooseNeuron(layer, place),
    }, parts);
  });
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function arrow(x, y, value, size, box, layer) {
  if (size < 0.01) return null;
  const half = 2.2 + 4.8 * Math.sqrt(size), at = x - box.radius - 5 - half, direction = value > 0 ? -1 : 1;
  return svg("path", { class: `arrow ${sign(value)}`, d: `M${at - half} ${y - direction * half * 0.8}h${2 * half}l${-half} ${direction * half * 1.7}z`, value, "data-arrow": `${layer}` });
}

function outputLabel(place, x, y, box) {
  const name = clip(data.layers[last].names[place], box.isNarrow ? 5 : 9), isWanted = data.isClassification && place === wantedPlace();
  const says = box.isNarrow ? null : svg("tspan", { dx: 8, style: "font-weight:400" }, show(passage(last, "a")[place], 2));
  return svg("text", { x: x + box.radius + 10, y: y + 4.5, style: isWanted ? "font-weight:700" : "" }, name, says, isWanted ? svg("tspan", { dx: 8 }, box.isNarrow ? "✓" : "← wanted") : null);
}

function moveInNetwork(event) {
  const move = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
  if (!move) return;
  event.preventDefault();
  event.stopPropagation();
  const layer = Math.max(1, Math.min(last, state.layer + move[0]));
  const place = layer === state.layer ? state.place + move[1] : Math.round((state.place / Math.max(1, width(state.layer) - 1)) * (width(layer) - 1));
  chooseNeuron(layer, Math.max(0, Math.min(width(layer) - 1, place)), true);
}

// ---------------------------------------------------------------------------------------------- 3: three ways

const WAYS = {
  bias: { title: "Its bias", by: "z follows it one to one" },
  weights: { title: "Its weights", by: "each in proportion to the activation it carries" },
  activations: { title: "The activations before", by: "each in proportion to its weight" },
};

function drawWays() {
  const { layer, place } = state, facts = example().ways[layer][place], nudge = passage(layer, "nudge")[place];
  const ordered = [...facts.ways].sort((a, b) => b.length - a.length), most = ordered[0].length;
  const wants = nudge === 0 ? "does not care where it goes" : `wants it ${nudge > 0 ? "higher" : "lower"} (${signed(nudge)})`;
  const asleep = facts.slope === 0 ? " It is asleep: z is below zero, so no small step changes its activation." : "";
  const rows = ordered.map((way) => el("tr", { "data-way": way.kind }, el("th", { scope: "row" }, WAYS[way.kind].title, el("div", { class: "small soft", style: "font-weight:400" }, WAYS[way.kind].by)),
    el("td", { class: "track" }, el("div", { class: "bar", "aria-hidden": "true" }, el("i", { style: `--v:${ratio(way.length, most)}` }))),
    el("td", { value: way.length }, `+${show(0.01 * way.length, 2)}`),
    way.together.map((value, i) => el("td", { value, "data-effect": i, class: i < 2 ? "" : value < 0 ? "up" : value > 0 ? "down" : "" }, signed(value, 3)))));
  put($("ways-body"), 
    el("p", {}, "Chosen: ", el("b", {}, neuronName(layer, place)), `. Its activation is ${show(passage(layer, "a")[place])}, and this example ${wants}.${asleep} There are three ways to raise it. A step of the same length, 0.01, really made along each:`),
    el("div", { class: "scroll" }, el("table", { class: "ways", id: "ways-table" },
      el("thead", {}, el("tr", {}, ["way", "", "raises z by", "activation, predicted", "measured", "cost, predicted", "measured"].map((name, i) => el("th", { scope: "col", class: i === 1 ? "track" : "" }, name)))), el("tbody", {}, rows))),
    el("p", { class: "note" }, `Predicted is derivative × step; measured is the network computed again. ${nudge < 0 ? "Raising it raises the cost here, so the step to take is the opposite one. " : ""}Changing an activation before also moves this neuron's neighbours, so its effect on the cost comes through all of them.`),
    layer === 1 && data.picture ? neuronPictures(place) : null,
    el("div", { class: "two" }, levers(facts.ways[1], layer), levers(facts.ways[2], layer)));
}

function levers(way, layer) {
  const most = largest(way.levers.map((lever) => lever[2])), isWeight = way.kind === "weights";
  const rows = way.levers.map(([k, value, slope], i) => el("tr", {},
    el("th", { scope: "row" }, inputName(layer - 1, k)), el("td", {}, show(value, 3)), el("td", { style: "min-width:70px" }, push(slope, most)), el("td", {}, signed(slope, 3)),
    el("td", { class: way.single[i][3] < 0 ? "up" : way.single[i][3] > 0 ? "down" : "", value: way.single[i][3], tip: `predicted ${signed(way.single[i][2])}\nmeasured ${signed(way.single[i][3])}` }, signed(way.single[i][3], 2))));
  return el("div", {}, el("h4", {}, isWeight ? "The weights that matter most" : "The activations before that matter most"),
    el("div", { class: "scroll" }, el("table", { class: "small" }, el("thead", {}, el("tr", {}, [isWeight ? "from" : "of", isWeight ? "weight" : "active", "", isWeight ? "carries" : "weight", "cost*"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows))),
    el("p", { class: "note" }, "* measured, when it alone moves by 0.01 in the direction that raises the neuron"));
}

function inputName(layer, number) {
  if (layer > 0) return `${layer}:${number}`;
  if (data.picture) return `pixel ${Math.floor(number / data.picture[2] / data.picture[1])},${Math.floor(number / data.picture[2]) % data.picture[1]}`;
  const place = data.layers[0].drawn.indexOf(number);
  return place < 0 ? `#${number}` : data.layers[0].names[place];
}

function neuronPictures(place) {
  const now = Array.from({ length: width(0) }, (_, k) => weight(1, place, k)), asked = Array.from({ length: width(0) }, (_, k) => weightNudge(1, place, k));
  const show1 = (node, text) => el("figure", {}, Object.assign(node, { className: "picture" }), el("figcaption", {}, text));
  return el("div", { class: "pics" },
    show1(picture(example()), "the picture it looks at"),
    show1(heat(now, data.picture, "Its weights, one for each pixel"), "its weights now: blue positive, orange negative"),
    show1(heat(asked, data.picture, "What its weights are asked"), "what this example asks of them: the picture itself, times one number"));
}

// ---------------------------------------------------------------------------------------------- 4 and 5: matrices

function tabs(chosen, name, choose) {
  const buttons = [];
  for (let layer = last; layer >= 1; layer--) buttons.push(el("button", { type: "button", "aria-pressed": String(layer === chosen), onclick: () => { choose(layer); document.querySelector(`#${name} .tabs button[aria-pressed=true]`).focus(); } }, `${layer === last ? "output" : `layer ${layer}`} → ${layer === 1 ? "input" : `layer ${layer - 1}`}`));
  return last > 1 ? el("div", { class: "tabs", role: "group", "aria-label": "Which layers" }, buttons) : null;
}

function cell(value, most, key, tip, className) {
  return el("td", {}, el("i", { class: `${value > 0 ? "p" : value < 0 ? "n" : ""} ${className || ""}`, style: `--v:${Math.sqrt(ratio(value, most)).toFixed(3)}`, value, "data-cell": key, tip, role: "img", "aria-label": tip }));
}

function drawWishes() {
  const layer = state.wishes, sums = passage(layer - 1, "nudge"), others = numbers(example().others[layer]);
  const rowsOf = Array.from({ length: width(layer) }, (_, j) => Array.from({ length: width(layer - 1) }, (_, k) => wish(layer, j, k)));
  const lead = el("p", {}, `Each row is one neuron of ${layerName(layer)} and what it would like ${layerName(layer - 1)} to do: −∂C/∂z of that neuron, times its weights. The last row is the sum of each column. That sum, and nothing else, is passed further back.`);
  const body = isPicture(layer - 1) ? pictureRows(layer, rowsOf, others, sums) : matrixRows(layer, rowsOf, others, sums);
  put($("wishes-body"), lead, tabs(layer, "wishes", (chosen) => { state.wishes = chosen; drawWishes(); }), body);
}

function matrixRows(layer, rowsOf, others, sums) {
  const most = Math.max(...rowsOf.map((row) => largest(row)), largest(isThinned(layer) ? others : [0])), mostSum = largest(sums);
  const head = el("tr", {}, el("th", {}), data.layers[layer - 1].names.map((name) => el("th", { scope: "col" }, clip(name, 9))));
  const rows = rowsOf.map((row, j) => el("tr", {}, el("th", { scope: "row" }, clip(data.layers[layer].names[j], 12)), row.map((value, k) => cell(value, most, `${layer}-${j}-${k}`, `${neuronName(layer, j)} wishes for ${neuronName(layer - 1, k)}: ${signed(value)}`))));
  if (isThinned(layer)) rows.push(el("tr", {}, el("th", { scope: "row" }, `${data.layers[layer].size - width(layer)} others`), Array.from(others, (value, k) => cell(value, most, `${layer}-others-${k}`, `the neurons not drawn wish for ${neuronName(layer - 1, k)}: ${signed(value)}`))));
  rows.push(el("tr", { class: "sum" }, el("th", { scope: "row" }, "sum"), Array.from(sums, (value, k) => cell(value, mostSum, `${layer}-sum-${k}`, `all together wish for ${neuronName(layer - 1, k)}: ${signed(value)}`))));
  return [el("div", { class: "scroll" }, el("table", { class: "heat" }, el("thead", {}, head), el("tbody", {}, rows))),
    el("p", { class: "note" }, `Across: ${isThinned(layer - 1) ? `${width(layer - 1)} of ${data.layers[layer - 1].size} neurons of` : "the neurons of"} ${layerName(layer - 1)}. Down: ${layerName(layer)}. Blue: more, orange: less. Point at a cell for its number.`)];
}

function pictureRows(layer, rowsOf, others, sums) {
  const most = Math.max(...rowsOf.map((row) => largest(row)));
  const figures = rowsOf.map((row, j) => el("figure", {}, heat(row, data.picture, `What ${neuronName(layer, j)} wishes for each pixel`, "", most), el("figcaption", {}, layer === last ? data.layers[layer].names[j] : `neuron ${data.layers[layer].names[j]}`)));
  if (isThinned(layer)) figures.push(el("figure", {}, heat(others, data.picture, "What the neurons not drawn wish for each pixel", ""), el("figcaption", {}, `${data.layers[layer].size - width(layer)} others`)));
  figures.push(el("figure", { class: "sum" }, heat(sums, data.picture, "The sum of all wishes for each pixel", ""), el("figcaption", {}, el("b", {}, "sum of all"))));
  return [el("div", { class: "smalls" }, figures), el("p", { class: "note" }, "Blue: this pixel brighter, orange: darker. A neuron that is asleep or content wishes for nothing. The sum is drawn on a scale of its own.")];
}

function drawHebb() {
  const layer = state.hebb, asked = Array.from(passage(layer, "delta"), (delta) => -delta), carried = passage(layer - 1, "a");
  const lead = el("p", {}, "For one example the nudges of all weights between two layers are an outer product: one column of wishes times one row of activations. A weight is asked to grow most where an active neuron meets one that should be more active; a silent neuron's weights are asked nothing at all.");
  const body = isPicture(layer - 1) ? hebbPictures(layer, asked, carried) : hebbMatrix(layer, asked, carried);
  put($("hebb-body"), lead, tabs(layer, "hebb", (chosen) => { state.hebb = chosen; drawHebb(); }), body);
}

function hebbMatrix(layer, asked, carried) {
  const most = largest(asked) * largest(carried), mostAsked = largest(asked), mostCarried = largest(carried);
  const ranked = asked.flatMap((d, j) => Array.from(carried, (a, k) => Math.abs(d * a))).sort((a, b) => b - a), strong = ranked[2];
  const head = [el("tr", {}, el("th", {}), el("th", {}), data.layers[layer - 1].names.map((name) => el("th", { scope: "col" }, clip(name, 9)))),
    el("tr", {}, el("th", { scope: "row" }, "activation"), el("td", {}), Array.from(carried, (a, k) => el("td", {}, el("i", { class: "g", style: `--v:${ratio(a, mostCarried)}`, value: a, tip: `${neuronName(layer - 1, k)}: activation ${show(a)}`, role: "img", "aria-label": `activation ${show(a)}` }))))];
  const rows = asked.map((d, j) => el("tr", {}, el("th", { scope: "row" }, clip(data.layers[layer].names[j], 12)), cell(d, mostAsked, `${layer}-asked-${j}`, `${neuronName(layer, j)}: wish −∂C/∂z ${signed(d)}`),
    Array.from(carried, (a, k) => cell(d * a, most, `${layer}-${j}-${k}`, `${neuronName(layer - 1, k)} → ${neuronName(layer, j)}\n${signed(d)} × ${show(a)} = ${signed(d * a)}`, Math.abs(d * a) >= strong && d * a !== 0 ? "strong" : ""))));
  return [el("div", { class: "scroll" }, el("table", { class: "heat" }, el("thead", {}, head), el("tbody", {}, rows))),
    el("p", { class: "note" }, "Top row: how active each neuron before is. Left column: the wish of each neuron after. Every cell is the product of the two; the three strongest are framed.")];
}

function hebbPictures(layer, asked, carried) {
  const most = largest(asked) * largest(carried);
  const figures = asked.map((d, j) => el("figure", { tip: `${neuronName(layer, j)}: ${signed(d)} × the picture` }, heat(Array.from(carried, (a) => d * a), data.picture, `Nudges of the weights of ${neuronName(layer, j)}`, "", most), el("figcaption", {}, layer === last ? data.layers[layer].names[j] : `neuron ${data.layers[layer].names[j]}`, el("div", { class: d > 0 ? "up" : "down" }, signed(d, 2)))));
  return [el("div", { class: "smalls" }, figures), el("p", { class: "note" }, "Each neuron's weights are asked to move along the input itself, times that neuron's own wish: the same picture again and again, blue or orange, strong or faint.")];
}

// ---------------------------------------------------------------------------------------------- 6: the average

function drawAverage() {
  const average = data.average, effect = average.effect, shown = example();
  const all = data.isSample ? `an even sample of ${count(data.numAveraged)} of ${count(data.numExamples)} examples` : `all ${count(data.numAveraged)} examples`;
  const extra = [data.momentum > 0 ? "momentum" : "", data.decay > 0 ? "weight decay" : ""].filter(Boolean).join(" and ");
  put($("average-body"), 
    el("p", {}, `One example alone would teach the network about nothing but itself. So every example is asked, and what they ask is averaged. The average is minus the gradient of the average cost; times the learning rate it is the step that gradient descent takes${extra ? ` (the run adds ${extra})` : ""}. Below, the weights and biases that ${all} together most want changed, layer by layer.`),
    wishTable(average.table),
    el("p", { class: "note" }, "Columns: the example explained, then others of the mini-batch from the one with the longest gradient down to the median. Blue: increase, orange: decrease; each row has its own colour scale."),
    el("h3", {}, "Who pulls?"),
    el("p", {}, `The gradient of each example can be split into a part along the average and a part across it. The parts along it add up to the average itself: an example's share. Example ${shown.index} pulls `, el("b", { value: shown.share * data.numAveraged, "data-fact": "share" }, `${signed(shown.share * data.numAveraged, 2)} times`), ` an equal share, and its direction agrees with the average by a cosine of ${signed(shown.agreement, 2)}.`),
    batchBars(average),
    el("div", { class: "two" }, gallery("They pull hardest", data.hardest), gallery("They pull against the average", data.opposing)),
    el("h3", {}, "A mini-batch asks only a few"),
    el("div", { class: "two" }, el("div", {}, fanChart(average.fan)), el("div", {},
      el("p", {}, `Each thin arrow is the average of one mini-batch of ${average.batchSize}, drawn at its true angle to the average of all (thick). ${fanSentence(average.fan)}`),
      el("p", {}, `One plain step at the learning rate of this moment, ${show(effect.learning_rate)}, takes the average cost from `, el("b", { value: effect.before }, show(effect.before, 4)), " to ", el("b", { value: effect.after_batch }, show(effect.after_batch, 4)), ` along the next mini-batch, and to `, el("b", { value: effect.after_all }, show(effect.after_all, 4)), ` along all. Asking all costs ${show(data.numExamples / average.batchSize, 3)} times as much.`))));
}

function fanSentence(fan) {
  const angles = fan.agreements.map((cosine) => Math.acos(Math.max(-1, Math.min(1, cosine))) * 180 / Math.PI).sort((a, b) => a - b);
  const middle = angles[Math.floor(angles.length / 2)];
  return angles.length === 1 ? "This batch holds all the examples." : `The middle one of ${angles.length} is ${middle.toFixed(0)}° off: not the true way down, but ${middle < 90 ? "still downhill" : "hardly downhill"}.`;
}

function wishTable(table) {
  const heads = table.examples.map((index) => data.examples.find((shown) => shown.index === index));
  const head = el("tr", {}, el("th", {}), heads.map((shown) => el("th", { scope: "col" }, thumb(shown, 34), labelOf(shown) || `#${shown.index}`)), el("th", { class: "avg", scope: "col" }, `mini-batch\nof ${data.average.batchSize}`), el("th", { class: "avg", scope: "col" }, data.isSample ? "sample" : "all"));
  const rows = [];
  table.names.forEach(([layer, before, neuron], row) => {
    if (row === 0 || table.names[row - 1][0] !== layer) rows.push(el("tr", { class: "layer" }, el("th", { colspan: heads.length + 3, scope: "colgroup" }, layer === last ? "into the output layer" : `into layer ${layer}`)));
    const values = [...table.wishes[row], table.batch[row], table.all[row]], most = largest(values);
    const name = before === null ? `bias of ${target(layer, neuron)}` : `${inputName(layer - 1, before)} → ${target(layer, neuron)}`;
    rows.push(el("tr", {}, el("th", { scope: "row" }, name), values.map((value, i) => el("td", { class: i >= heads.length ? "avg" : "" }, el("span", { class: `wish ${value > 0 ? "p" : value < 0 ? "n" : ""}`, style: `--v:${(0.75 * Math.sqrt(ratio(value, most))).toFixed(3)}`, value, "data-wish": `${row}-${i}` }, value === 0 ? "·" : signed(value, 2))))));
  });
  return el("div", { class: "scroll" }, el("table", { class: "wishes-table", id: "wish-table" }, el("thead", {}, head), el("tbody", {}, rows)));
}

function target(layer, neuron) {
  const place = data.layers[layer].drawn.indexOf(neuron);
  return layer === last && place >= 0 ? data.layers[layer].names[place] : String(neuron);
}

function gallery(title, pulls) {
  const items = pulls.map((pull) => el("li", { tip: `example ${pull.index}\ncost ${show(pull.cost)}\n${signed(pull.share * data.numAveraged)} times an equal share\ncosine ${signed(pull.agreement, 2)}` }, thumb(pull, 58), el("b", {}, pull.label === null ? `#${pull.index}` : String(pull.label)), `${signed(pull.share * data.numAveraged, 2)}×`));
  return el("div", {}, el("h4", {}, title), pulls.length ? el("ul", { class: "gallery" }, items) : el("p", { class: "soft" }, "Nobody does."));
}

function batchBars(average) {
  const shares = average.batch.map((pull) => pull.share * average.batchSize), most = Math.max(...shares, 0), least = Math.min(...shares, 0);
  const W = 1000, H = 150, zero = 8 + (H - 16) * most / (most - least || 1), step = W / shares.length;
  const bars = shares.map((share, i) => {
    const end = 8 + (H - 16) * (most - share) / (most - least || 1), pull = average.batch[i];
    return svg("rect", { x: i * step + step * 0.1, y: Math.min(zero, end), width: step * 0.8, height: Math.max(0.6, Math.abs(end - zero)), class: `arrow ${sign(share)}`, value: share, "data-share": pull.index, tip: `example ${pull.index}${pull.label === null ? "" : ` (${pull.label})`}\n${signed(share)} times an equal share\ncosine ${signed(pull.agreement, 2)}, cost ${show(pull.cost)}` });
  });
  const against = shares.filter((share) => share < 0).length, sorted = [...shares].sort((a, b) => b - a);
  let sum = 0, half = 0;
  while (half < sorted.length && sum < average.batchSize / 2) sum += sorted[half++];
  return el("figure", { class: "stage" }, svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", style: "height: 150px", role: "img", "aria-label": `Pull of each of the ${shares.length} examples of the mini-batch, from ${signed(shares[0])} to ${signed(shares[shares.length - 1])} times an equal share` }, svg("line", { x1: 0, x2: W, y1: zero, y2: zero, stroke: "var(--ring)" }), bars),
    el("figcaption", {}, `The ${average.batchSize} examples of the next mini-batch, each with its pull on the mini-batch's own average, strongest first. ${half === 1 ? "One alone makes" : `${half} of them make`} half of it; ${against === 0 ? "nobody pulls" : against === 1 ? "one pulls" : `${against} pull`} against it.`));
}

function fanChart(fan) {
  const W = 420, H = 300, x0 = 40, y0 = H / 2;
  const across = fan.agreements.map((cosine, i) => fan.lengths[i] * Math.sqrt(Math.max(0, 1 - cosine * cosine)));
  const along = fan.agreements.map((cosine, i) => fan.lengths[i] * cosine);
  const scale = Math.min((W - x0 - 70) / Math.max(data.gradientLength, ...along), (H / 2 - 12) / Math.max(1e-300, ...across), (x0 - 8) / Math.max(1e-300, ...along.map((part) => -part)));
  const line = (x, y, attributes) => svg("path", { d: `M${x0} ${y0}L${x0 + scale * x} ${y0 + scale * y}`, fill: "none", "stroke-linecap": "round", ...attributes });
  return el("figure", { class: "stage" }, svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Averages of ${fan.lengths.length} mini-batches against the average of all` },
    fan.lengths.map((length, i) => line(along[i], i % 2 ? across[i] : -across[i], { stroke: "var(--soft)", "stroke-width": 2, opacity: 0.55, value: fan.agreements[i], "data-batch": i, tip: `mini-batch ${i + 1}\nlength ${show(length)}\ncosine ${signed(fan.agreements[i], 2)}` })),
    line(data.gradientLength, 0, { stroke: "var(--accent)", "stroke-width": 6, tip: `average of all\nlength ${show(data.gradientLength)}` }),
    svg("circle", { cx: x0, cy: y0, r: 5, fill: "var(--ink)" }), svg("text", { x: W - 4, y: y0 + 4, "text-anchor": "end", class: "soft" }, "downhill →")));
}

// ---------------------------------------------------------------------------------------------- 7: one class only

function drawListening() {
  if (data.listening.length === 0) {
    $("listening").hidden = true;
    return;
  }
  const first = data.listening[0], steps = first.steps[first.steps.length - 1];
  const names = data.step === 0 ? ["untrained"] : ["this network", "untrained"];
  const end = (listening) => percent(listening.called[listening.called.length - 1][listening.class_number]);
  const sentence = data.listening.map((listening, i) => `${i === 0 ? (data.step === 0 ? "The untrained network" : "This network") : "The untrained one"} then calls ${end(listening)} of ${count(listening.num_watched)} examples of all classes “${listening.label}”`).join(". ");
  put($("listening-body"), 
    el("p", {}, `What if only examples of “${first.label}” had a say? ${steps} steps of SGD were really made, with the run's own optimizer and ${first.batch_size} examples a step, on nothing but the ${count(first.num_heard)} examples of “${first.label}”. ${sentence}.${contentNote(first)}`),
    el("div", { class: "two" }, lineChart(first.label, names), endBars(names)));
}

function contentNote(listening) {
  const rise = listening.called[listening.called.length - 1][listening.class_number] - listening.called[0][listening.class_number];
  return data.step > 0 && rise < 0.05 ? " The trained one is hardly moved: it is already right about these examples, so they ask for next to nothing. The untrained one believes whatever it is told." : " That is why everyone must be asked.";
}

function lineChart(label, names) {
  const W = 480, H = 270, left = 44, right = 12, top = 14, bottom = 40, steps = data.listening[0].steps, end = steps[steps.length - 1];
  const x = (step) => left + (W - left - right) * step / end, y = (share) => top + (H - top - bottom) * (1 - share);
  const colors = ["var(--accent)", "var(--down)"];
  const lines = data.listening.map((listening, i) => {
    const shares = listening.called.map((row) => row[listening.class_number]);
    const d = shares.map((share, t) => `${t ? "L" : "M"}${x(steps[t]).toFixed(1)} ${y(share).toFixed(1)}`).join("");
    const tips = shares.map((share, t) => svg("circle", { cx: x(steps[t]), cy: y(share), r: 3.2, fill: colors[i], value: share, "data-called": `${i}-${t}`, tip: `${names[i]}, after ${steps[t]} steps\ncalls ${percent(share)} “${label}”\naccuracy ${percent(listening.accuracies[t])}` }));
    return [svg("path", { d, fill: "none", stroke: colors[i], "stroke-width": 2.5, "stroke-dasharray": i ? "6 4" : null }), tips];
  });
  const grid = [0, 0.5, 1].map((share) => [svg("line", { x1: left, x2: W - right, y1: y(share), y2: y(share), stroke: "var(--line)" }), svg("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end", class: "soft" }, `${100 * share} %`)]);
  const key = names.slice(0, data.listening.length).map((name, i) => svg("g", {}, svg("line", { x1: left + 140 * i, x2: left + 140 * i + 24, y1: H - 4, y2: H - 4, stroke: colors[i], "stroke-width": 3, "stroke-dasharray": i ? "6 4" : null }), svg("text", { x: left + 140 * i + 30, y: H, class: "soft" }, name)));
  return el("figure", { class: "stage" }, el("h4", {}, `Share of all examples called “${label}”`), svg("svg", { viewBox: `0 0 ${W} ${H + 4}`, role: "img", "aria-label": `Share of all examples called ${label}, over ${end} steps` }, grid, lines, key, [0, end / 2, end].map((step) => svg("text", { x: x(step), y: H - bottom + 18, "text-anchor": step === end ? "end" : "middle", class: "soft" }, step === end ? `${step} steps` : step))));
}

function endBars(names) {
  const rows = data.listening[0].called[0].map((_, c) => c).filter((c) => data.layers[last].drawn.includes(c));
  const table = el("table", { class: "outs small" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "said"), names.slice(0, data.listening.length).map((name) => el("th", { scope: "col", colspan: 2 }, name)))),
    el("tbody", {}, rows.map((c) => el("tr", {}, el("th", { scope: "row" }, data.layers[last].names[data.layers[last].drawn.indexOf(c)]),
      data.listening.map((listening) => { const share = listening.called[listening.called.length - 1][c]; return [el("td", { class: "track" }, el("div", { class: "bar", "aria-hidden": "true" }, el("i", { style: `--v:${share}` }))), el("td", { value: share }, percent(share))]; })))));
  return el("div", {}, el("h4", {}, "What is said of all examples at the end"), el("div", { class: "scroll" }, table));
}

// ---------------------------------------------------------------------------------------------- 8: costs

function drawCosts() {
  const costs = data.costs, W = 1000, H = 230, top = 44, bottom = 34, bins = costs.counts.length, most = Math.max(...costs.counts);
  const low = Math.log(costs.edges[0]), high = Math.log(costs.edges[bins]);
  const x = (cost) => 10 + (W - 20) * (Math.log(Math.min(Math.max(cost, costs.edges[0]), costs.edges[bins])) - low) / (high - low);
  const bars = costs.counts.map((number, i) => svg("rect", { x: x(costs.edges[i]) + 1, width: x(costs.edges[i + 1]) - x(costs.edges[i]) - 2, y: H - bottom - (H - top - bottom) * number / most, height: (H - top - bottom) * number / most, fill: "var(--ring)", rx: 2, value: number, "data-bin": i, tip: `${count(number)} examples cost ${show(costs.edges[i], 2)} to ${show(costs.edges[i + 1], 2)}` }));
  const mark = (cost, text, y, color) => { const at = x(cost), anchor = at > W - 160 ? "end" : "start"; return svg("g", {}, svg("line", { x1: at, x2: at, y1: y + 4, y2: H - bottom, stroke: color, "stroke-width": 2 }), svg("text", { x: at + (anchor === "end" ? -4 : 4), y: y + 10, "text-anchor": anchor, style: `fill:${color};font-weight:600` }, text)); };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => { const cost = Math.exp(low + part * (high - low)); return svg("text", { x: x(cost), y: H - 12, class: "soft", "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle" }, show(cost, 2)); });
  put($("costs-body"), 
    el("p", {}, `The cost of training is an average over ${count(data.numAveraged)} examples, and not all have the same weight in it. The costliest ${percent(costs.top_fractions[0])} of the examples carry `, el("b", { value: costs.carried[0], "data-fact": "carried" }, percent(costs.carried[0])), ` of the total, the costliest ${percent(costs.top_fractions[2])} carry `, el("b", {}, percent(costs.carried[2])), `. The median is ${show(costs.quantiles[2])}, the average ${show(data.averageCost)}.`),
    el("figure", { class: "stage" }, svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Distribution of the cost on a logarithmic axis, this example at ${show(example().cost)}, the average at ${show(data.averageCost)}` }, bars, mark(data.averageCost, "average", 0, "var(--accent)"), mark(example().cost, "this example", 16, "var(--down)"), ticks), el("figcaption", {}, `How many examples cost how much; the axis is logarithmic.${costs.quantiles[0] < costs.edges[0] ? " The first bar also holds those that cost still less." : ""}`)),
    gallery2("The costliest", data.costliest));
}

function gallery2(title, pulls) {
  return el("div", {}, el("h4", {}, title), el("ul", { class: "gallery" }, pulls.map((pull) => el("li", { tip: `example ${pull.index}` }, thumb(pull, 58), el("b", {}, pull.label === null ? `#${pull.index}` : String(pull.label)), show(pull.cost, 2)))));
}

// ---------------------------------------------------------------------------------------------- all of it

function drawAll() {
  drawChooser();
  drawOne();
  drawStage();
  drawWays();
  drawWishes();
  drawHebb();
  drawAverage();
  drawCosts();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inStrip = event.target.closest && event.target.closest("#examples");
  if (inStrip && ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    chooseExample(state.example + (["ArrowRight", "ArrowDown"].includes(event.key) ? 1 : -1), true);
  } else if (event.key === "ArrowRight" || event.key === "n") goTo(state.stage + 1);
  else if (event.key === "ArrowLeft" || event.key === "p") goTo(state.stage - 1);
  else if (event.key === "e") chooseExample(state.example + 1);
  else if (event.key === "E") chooseExample(state.example - 1);
}

$("back").addEventListener("click", () => goTo(state.stage - 1));
$("next").addEventListener("click", () => goTo(state.stage + 1));
document.addEventListener("keydown", onKey);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
let widthBefore = innerWidth;
addEventListener("resize", () => { if (innerWidth !== widthBefore) { widthBefore = innerWidth; drawStage(); } });
startTips();
drawHeader();
drawAll();
drawListening();
$("footer").textContent = `Made by distbp from ${data.run}, step ${data.step}, digest ${data.digest}. The parameters are those of the checkpoint, the arithmetic is float64${data.dropout > 0 ? ", nothing is dropped out" : ""}. Predicted changes come from backpropagation, measured ones from computing the network again.`;
document.documentElement.dataset.ready = String(Math.round(performance.now()));
