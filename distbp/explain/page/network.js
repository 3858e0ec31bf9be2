"use strict";
// Section 2: the network drawn, and the steps of the backward pass.

function makeStages() {
  const stages = [
    {
      kind: "forward",
      title: "Forward first",
      text: () =>
        `${data.picture ? "The picture" : "The input"} goes in at the left. Each neuron adds up the activations before it, each times a weight, and its bias; how bright it is drawn is how active it is. ${verdict()}`,
    },
  ];
  stages.push({
    kind: "off",
    reached: last,
    title: "How wrong is it?",
    text: () => {
      const shown = passage(last, "nudge"),
        j = wantedPlace();
      return `Each output gets a wish: ▲ more, ▼ less, larger the further off it is. ${neuronName(last, j)} should be ${shown[j] > 0 ? "higher" : "lower"} (${signed(shown[j], 2)}). But outputs cannot be set by hand. Only weights and biases can.`;
    },
  });
  stages.push({
    kind: "one",
    layer: last,
    reached: last,
    title: () => `What ${neuronName(last, focusOutput())} alone asks of ${layerName(last - 1)}`,
    text: () =>
      `It would be ${passage(last, "delta")[focusOutput()] < 0 ? "higher" : "lower"} if the neurons that reach it through a positive weight were ${passage(last, "delta")[focusOutput()] < 0 ? "more" : "less"} active, and the others the other way round. Wishes are in proportion to the weights. Choose another output to hear its wishes.`,
  });
  for (let layer = last; layer >= 1; layer--) {
    const before = layerName(layer - 1);
    stages.push({
      kind: "all",
      layer,
      reached: layer - 1,
      title:
        layer === last
          ? "All outputs speak, and their wishes add up"
          : `The same again, one layer back: what is wanted of ${before}`,
      text: () =>
        layer === last
          ? `Every other output has wishes for ${before} too. Added up, they are one wish for each neuron: that is −∂C/∂a, how the cost follows its activation. Where outputs disagree, they cancel.`
          : layer > 1
            ? `The wishes for ${layerName(layer)} cannot be granted directly either. Passed on through ${layerName(layer)}'s own weights and added up, they become wishes for ${before}: this is the “back” in backpropagation.`
            : `The last sum reaches the input. Nobody may change the input, but these wishes show what would have made the network less wrong: blue should be brighter, orange darker.`,
    });
  }
  stages.push({
    kind: "weights",
    reached: 0,
    title: "What every weight is asked",
    text: () =>
      "Now every wish meets the activation that its weight carries: the nudge of a weight is (wish of the neuron it leads to) × (activation of the neuron it comes from). The strongest join the most active neurons to those that should change most.",
  });
  return stages;
}

const stages = makeStages();
const focusOutput = () => (state.layer === last ? state.place : wantedPlace());
const textOf = (value) => (typeof value === "function" ? value() : value);

function goTo(stage) {
  state.stage = Math.max(0, Math.min(stages.length - 1, stage));
  drawStage();
  say(
    `Step ${state.stage + 1} of ${stages.length}: ${textOf(stages[state.stage].title)}. ${textOf(stages[state.stage].text)}`,
  );
}

// What is shown at the neurons of a layer in this stage: wishes in blue and orange, or nothing yet.
function wishesOf(layer, stage) {
  if (stage.kind === "one" && layer === last - 1) {
    return Array.from({ length: width(layer) }, (_, k) => wish(last, focusOutput(), k));
  }
  return stage.reached !== undefined && layer >= stage.reached ? passage(layer, "nudge") : null;
}

function edgeValues(layer, stage) {
  const rows = width(layer),
    columns = width(layer - 1);
  if (isPicture(layer - 1)) return null;
  const value =
    stage.kind === "weights"
      ? weightNudge
      : stage.kind === "all" && stage.layer === layer
        ? wish
        : stage.kind === "one" && stage.layer === layer
          ? (l, j, k) => (j === focusOutput() ? wish(l, j, k) : 0)
          : null;
  const read = value || ((l, j, k) => weight(l, j, k) * passage(l - 1, "a")[k]);
  return {
    isLit: value !== null,
    at: Array.from({ length: rows }, (_, j) => Array.from({ length: columns }, (_, k) => read(layer, j, k))),
  };
}

function measureStage() {
  const total = Math.max(300, $("network").clientWidth || 900),
    isNarrow = total < 620;
  const most = Math.max(...data.layers.map((_, layer) => (isPicture(layer) ? 0 : width(layer))));
  const row = isNarrow ? 25 : most > 12 ? 29 : 34,
    top = 46;
  const photoSize = data.picture ? (isNarrow ? Math.min(84, total * 0.22) : Math.min(190, total * 0.19)) : 0;
  const left = data.picture ? photoSize : isNarrow ? 78 : 130,
    right = isNarrow ? 66 : 150;
  const height = Math.max(top + most * row + 12, data.picture ? top + 2 * photoSize + 60 : 0);
  const first = data.picture ? left + (isNarrow ? 44 : 110) : left + 20;
  const columns = data.layers.length - (data.picture ? 1 : 0);
  const gap = columns > 1 ? (total - right - first - 14) / (columns - 1) : 0;
  const x = (layer) =>
    isPicture(layer)
      ? photoSize
      : columns === 1
        ? (first + total - right) / 2
        : first + gap * (layer - (data.picture ? 1 : 0));
  const y = (layer, place) =>
    top +
    (height - top - 12) / 2 +
    (place - (width(layer) - 1) / 2) * Math.min(row, (height - top - 12) / width(layer));
  return { total, height, isNarrow, row, top, photoSize, x, y, radius: Math.min(row * 0.36, 10.5) };
}

function drawStage() {
  const stage = stages[state.stage],
    box = measureStage(),
    hadFocus = document.activeElement?.closest?.(".node");
  const parts = [];
  for (let layer = 1; layer <= last; layer++) parts.push(...drawEdges(layer, stage, box));
  if (data.picture) parts.push(...drawInput(stage, box));
  for (let layer = 0; layer <= last; layer++) {
    parts.push(layerTitle(layer, box));
    if (!isPicture(layer)) parts.push(...drawNodes(layer, stage, box));
  }
  put(
    $("network"),
    svg(
      "svg",
      {
        viewBox: `0 0 ${box.total} ${box.height}`,
        role: "group",
        "aria-label": `The network, ${textOf(stage.title)}. Arrow keys move between neurons.`,
        onkeydown: moveInNetwork,
      },
      parts,
    ),
    legend(),
  );
  if (hadFocus) document.querySelector(".node[tabindex='0']").focus();
  drawStepper(stage);
}

function drawStepper(stage) {
  $("stage-title").textContent = textOf(stage.title);
  $("stage-text").textContent = textOf(stage.text);
  $("back").disabled = state.stage === 0;
  $("next").disabled = state.stage === stages.length - 1;
  put(
    $("dots"),
    ...stages.map((other, i) =>
      el(
        "li",
        {},
        el("button", {
          type: "button",
          "aria-label": `Step ${i + 1}: ${textOf(other.title)}`,
          "aria-current": i === state.stage ? "step" : null,
          tip: textOf(other.title),
          onclick: () => {
            goTo(i);
            $("dots").children[i].firstChild.focus();
          },
        }),
      ),
    ),
  );
  const thinned = data.layers
    .map((layer, i) => ({ layer, i }))
    .filter(({ i }) => isThinned(i))
    .map(({ layer, i }) => `${width(i)} of ${layer.size} in ${layerName(i)}`);
  $("network-note").textContent = thinned.length
    ? `Not all neurons fit: drawn are ${thinned.join(", ")}, those that matter most to the cost of the examples on this page (largest wish × activation). All of them take part in every number.`
    : "Every neuron is drawn.";
}

function legend() {
  const hasNegative = data.network.activation !== "relu" && data.network.activation !== "sigmoid";
  return el(
    "ul",
    { class: "legend" },
    el(
      "li",
      {},
      el("i", { class: "g", style: "--v:.05" }),
      "silent ",
      el("i", { class: "g", style: "--v:.95" }),
      "active",
      hasNegative ? [" ", el("i", { style: "background: var(--negative)" }), "negative"] : null,
    ),
    el("li", {}, el("span", { class: "up" }, "▲ blue: more"), " · ", el("span", { class: "down" }, "▼ orange: less")),
    el("li", {}, "width: how much"),
  );
}

function layerTitle(layer, box) {
  const text = layer === 0 ? "input" : layer === last ? "output" : box.isNarrow ? `${layer}` : `layer ${layer}`;
  const x = isPicture(layer) ? box.photoSize / 2 : box.x(layer);
  const detail = isPicture(layer)
    ? `${data.picture[0]}×${data.picture[1]}`
    : isThinned(layer)
      ? box.isNarrow
        ? `of ${data.layers[layer].size}`
        : `${width(layer)} of ${data.layers[layer].size}`
      : `${width(layer)}`;
  return [
    svg("text", { x, y: 14, "text-anchor": "middle" }, text),
    svg("text", { x, y: 29, "text-anchor": "middle", class: "soft" }, detail),
  ];
}

function drawEdges(layer, stage, box) {
  const edges = edgeValues(layer, stage);
  if (edges === null) return drawPictureEdges(layer, stage, box);
  const most = Math.max(...edges.at.map((row) => largest(row)));
  const found = [];
  edges.at.forEach((row, j) => {
    row.forEach((value, k) => {
      const size = ratio(value, most);
      if (size < 0.02) return;
      const isChosen = state.layer === layer && state.place === j;
      found.push({
        size,
        node: svg("path", {
          d: `M${box.x(layer - 1) + box.radius} ${box.y(layer - 1, k)}L${box.x(layer) - box.radius} ${box.y(layer, j)}`,
          value,
          class: `edge ${edges.isLit ? `lit ${sign(value)}` : "plain"}`,
          "data-edge": `${layer}-${j}-${k}`,
          "stroke-width": edges.isLit ? 0.4 + 3.4 * Math.sqrt(size) : 0.5 + 1.2 * size,
          opacity: edges.isLit
            ? 0.12 + 0.85 * size
            : (isChosen ? 0.25 + 0.6 * size : 0.05 + 0.35 * size) * (stage.kind === "forward" ? 1 : 0.45),
          tip: edges.isLit
            ? `${shortName(layer - 1, k)} → ${neuronName(layer, j)}\nweight ${show(weight(layer, j, k))}\n${stage.kind === "weights" ? `asked of the weight ${signed(value)}` : `wish for the activation before ${signed(value)}`}`
            : null,
        }),
      });
    });
  });
  return found.sort((a, b) => a.size - b.size).map((edge) => edge.node);
}

// From a picture there are too many weights to draw: a fan stands for all that lead to a neuron.
function drawPictureEdges(layer, stage, box) {
  const isLit =
    stage.kind === "weights" ||
    (stage.kind === "all" && stage.layer === layer) ||
    (stage.kind === "one" && layer === last);
  const deltas = passage(layer, "delta"),
    most = largest(deltas);
  return Array.from({ length: width(layer) }, (_, j) => {
    const size = isLit
      ? stage.kind === "one" && j !== focusOutput()
        ? 0
        : ratio(deltas[j], most)
      : state.layer === layer && state.place === j
        ? 0.7
        : 0.2;
    const x = box.x(layer) - box.radius,
      y = box.y(layer, j),
      start = box.photoSize + 4;
    const part = (j + 0.5) / width(layer),
      fan = box.top + 6 + part * (box.photoSize - 12);
    return size < 0.02
      ? null
      : svg("path", {
          d: `M${start} ${fan}C${(start + x) / 2} ${fan} ${(start + x) / 2} ${y} ${x} ${y}`,
          class: `edge ${isLit ? `lit ${sign(-deltas[j])}` : "plain"}`,
          "stroke-width": isLit ? 0.4 + 3 * Math.sqrt(size) : 0.8,
          opacity: isLit ? 0.15 + 0.8 * size : 0.15 + 0.5 * size,
        });
  }).filter(Boolean);
}

function drawInput(stage, box) {
  const size = box.photoSize;
  const image = (node, y, label) =>
    svg("image", { href: node.toDataURL(), x: 0, y, width: size, height: size, role: "img", "aria-label": label });
  const parts = [image(picture(example()), box.top, "The input picture")];
  const alone = stage.kind === "one" && last === 1;
  if (stage.reached === 0 || alone) {
    const wishes = alone
      ? Array.from({ length: width(0) }, (_, k) => wish(last, focusOutput(), k))
      : passage(0, "nudge");
    parts.push(
      image(
        heat(wishes, data.picture, ""),
        box.top + size + 34,
        "What is wished for each pixel: blue brighter, orange darker",
      ),
      svg(
        "text",
        { x: size / 2, y: box.top + size + 24, "text-anchor": "middle", class: "soft" },
        box.isNarrow ? "wished for" : "wished for each pixel",
      ),
    );
  }
  return parts;
}

function drawNodes(layer, stage, box) {
  const activations = passage(layer, "a"),
    most = layer === last && data.network.is_classification ? 1 : largest(activations);
  const wishes = wishesOf(layer, stage),
    mostWished = wishes ? largest(wishes) : 0;
  return Array.from({ length: width(layer) }, (_, place) => {
    const x = box.x(layer),
      y = box.y(layer, place),
      isChosen = layer === state.layer && place === state.place,
      a = activations[place];
    const wished = wishes ? `, wished for ${signed(wishes[place])}` : "";
    const color = mix(parseColor("--off"), parseColor(a < 0 ? "--negative" : "--on"), Math.min(1, ratio(a, most)));
    const parts = [
      svg("circle", { class: "halo", cx: x, cy: y, r: box.radius + 4.5 }),
      svg("circle", { class: "body", cx: x, cy: y, r: box.radius, fill: `rgb(${color})` }),
    ];
    if (wishes) parts.push(arrow(x, y, wishes[place], ratio(wishes[place], mostWished), box, layer));
    if (layer === last) parts.push(outputLabel(place, x, y, box));
    if (layer === 0)
      parts.push(
        svg(
          "text",
          { x: x - box.radius - 14, y: y + 4, "text-anchor": "end", class: box.isNarrow ? "soft" : "" },
          clip(data.layers[0].names[place], box.isNarrow ? 9 : 15),
        ),
      );
    return svg(
      "g",
      {
        class: "node",
        role: layer === 0 ? "img" : "button",
        tabindex: isChosen ? 0 : -1,
        "aria-pressed": layer === 0 ? null : String(isChosen),
        "data-layer": layer,
        "data-place": place,
        value: a,
        "aria-label": `${neuronName(layer, place)}: activation ${show(a)}${wished}`,
        tip: `${neuronName(layer, place)}\nactivation ${show(a)}${wishes ? `\nwished for ${signed(wishes[place])}` : ""}`,
        onclick: layer === 0 ? null : () => chooseNeuron(layer, place),
      },
      parts,
    );
  });
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function arrow(x, y, value, size, box, layer) {
  if (size < 0.01) return null;
  const half = 2.2 + 4.8 * Math.sqrt(size),
    at = x - box.radius - 5 - half,
    direction = value > 0 ? -1 : 1;
  return svg("path", {
    class: `arrow ${sign(value)}`,
    d: `M${at - half} ${y - direction * half * 0.8}h${2 * half}l${-half} ${direction * half * 1.7}z`,
    value,
    "data-arrow": `${layer}`,
  });
}

function outputLabel(place, x, y, box) {
  const name = clip(data.layers[last].names[place], box.isNarrow ? 5 : 9),
    isWanted = data.network.is_classification && place === wantedPlace();
  const says = box.isNarrow
    ? null
    : svg("tspan", { dx: 8, style: "font-weight:400" }, tell(example().outputs[place], 2));
  return svg(
    "text",
    { x: x + box.radius + 10, y: y + 4.5, style: isWanted ? "font-weight:700" : "" },
    name,
    says,
    isWanted ? svg("tspan", { dx: 8 }, box.isNarrow ? "✓" : "← wanted") : null,
  );
}

function moveInNetwork(event) {
  const move = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
  if (!move) return;
  event.preventDefault();
  event.stopPropagation();
  const layer = Math.max(1, Math.min(last, state.layer + move[0]));
  const place =
    layer === state.layer
      ? state.place + move[1]
      : Math.round((state.place / Math.max(1, width(state.layer) - 1)) * (width(layer) - 1));
  chooseNeuron(layer, Math.max(0, Math.min(width(layer) - 1, place)), true);
}
