"use strict";
// Sections 1, 3, 4 and 5: one example, three ways to raise a neuron, wishes added up, weights as outer products.

function verdict() {
  const shown = example();
  if (units && shown.outputs.length === 1)
    return `The network says ${tell(shown.outputs[0])}, wanted is ${tell(shown.wanted[0])}.`;
  if (!data.network.is_classification) return `Its cost is ${tell(shown.cost)}.`;
  const is = shown.predicted === shown.label ? "and so it is" : `but it is ${labelOf(shown)}`;
  return `The network says ${shown.predicted}, ${is}.`;
}

function drawHeader() {
  const when = data.step === 0 ? "before training" : `after ${count(data.step)} steps of training`;
  $("run-line").textContent =
    `${data.run} · ${data.network.sizes.join("–")} ${data.network.activation} · ${count(data.network.num_parameters)} weights and biases · ${when}`;
  $("lead").textContent =
    `Training asks one thing of each example: which way should every weight and bias move, and how much does it matter, so that the network is less wrong about me? Backpropagation finds all ${count(data.network.num_parameters)} answers in one pass backwards. This page shows them, computed from the real network. Choose an example:`;
}

function drawOne() {
  const shown = example(),
    outputs = shown.outputs,
    nudges = passage(last, "nudge"),
    most = largest(nudges);
  const top = Math.max(largest(outputs), largest(shown.wanted));
  const rows = data.layers[last].names.map((name, j) =>
    el(
      "tr",
      { class: j === wantedPlace() && data.network.is_classification ? "wanted" : "" },
      el("th", { scope: "row" }, name),
      el(
        "td",
        { class: "track first" },
        data.network.is_classification ? shareBar(outputs[j], shown.wanted[j]) : push(outputs[j], top, "plain"),
      ),
      el("td", { class: "says", value: outputs[j] }, tell(outputs[j])),
      el("td", { class: "soft", value: shown.wanted[j], "data-wanted": j }, tell(shown.wanted[j])),
      el("td", { class: "track" }, push(nudges[j], most)),
      el("td", { class: `nudge ${nudges[j] > 0 ? "up" : "down"}`, value: nudges[j] }, signed(nudges[j], 2)),
    ),
  );
  const times = shown.cost / data.all.cost;
  put(
    $("one-body"),
    el(
      "div",
      { class: "one-grid" },
      el("div", {}, data.picture ? picture(shown) : inputList(shown)),
      el(
        "div",
        {},
        el("p", { class: "big" }, verdict()),
        el(
          "dl",
          { class: "facts" },
          fact("its cost", tell(shown.cost), shown.cost, "cost"),
          fact("the average cost", tell(data.all.cost), data.all.cost, "average"),
          fact("cost less than it", percent(shown.quantile)),
          isWeighted ? fact("its weight", show(shown.weight), shown.weight, "weight") : null,
          fact("example", `${shown.index} of ${data.data.name}`),
        ),
        el(
          "p",
          { class: "small soft" },
          times > 1.05
            ? `It costs ${show(times, 2)} times the average, so it has much to ask for.`
            : times < 0.95
              ? "It costs less than the average: it is nearly content, and asks for little."
              : "",
        ),
      ),
      el(
        "div",
        { class: "wide", style: "grid-column: 1 / -1" },
        el(
          "div",
          { class: "scroll" },
          el(
            "table",
            { class: "outs" },
            el(
              "thead",
              {},
              el(
                "tr",
                {},
                el("th", { scope: "col" }, "output"),
                el("th", { class: "first" }),
                el("th", { scope: "col" }, "says"),
                el("th", { scope: "col" }, "wanted"),
                el("th", {}),
                el("th", { scope: "col" }, "wished for"),
              ),
            ),
            el("tbody", {}, rows),
          ),
        ),
        el(
          "p",
          { class: "note" },
          `${costFormula()} The wish of each output (right) is in proportion to how far off it is: what is far off pulls hard, what is nearly right hardly matters.${isThinned(last) ? ` ${width(last)} of ${data.layers[last].size} outputs are shown, those that are furthest off.` : ""}`,
        ),
        unitsNote(),
        weightNote(),
      ),
    ),
  );
}

const shareBar = (share, wanted) =>
  el(
    "div",
    { class: "bar", "aria-hidden": "true" },
    el("i", { style: `--v:${share}` }),
    wanted > 0 ? el("i", { class: "want", style: `--v:${wanted}` }) : null,
  );

function costFormula() {
  return data.network.loss === "cross_entropy"
    ? "The cost is −log of the share that the right class gets. Softmax outputs move only together, so the wish is for the score z before it: wanted − says."
    : "The cost is the sum over the outputs of (says − wanted)². " +
        (units
          ? "The wish for an output is minus the derivative of the scaled cost: 2 (wanted − says) / deviation."
          : "The wish for an output is minus its derivative: 2 (wanted − says).");
}

const fact = (name, text, value, key) => el("div", {}, el("dt", {}, name), el("dd", { value, "data-fact": key }, text));

function picture(shown) {
  return photo(
    data.pictures[shown.index],
    data.picture,
    `The input, a picture of ${data.picture[0]} by ${data.picture[1]} pixels${labelOf(shown) && `, showing ${labelOf(shown)}`}`,
    "picture",
  );
}

function inputList() {
  const values = passage(0, "a"),
    most = largest(values);
  const rows = data.layers[0].names.map((name, k) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, clip(name, 14)),
      el("td", { style: "min-width:70px" }, push(values[k], most, "plain")),
      el("td", {}, show(values[k], 2)),
    ),
  );
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "small" },
      el("caption", { class: "soft small" }, "its inputs, scaled"),
      el("tbody", {}, rows),
    ),
  );
}

const WAYS = {
  bias: { title: "Its bias", by: "z follows it one to one" },
  weights: { title: "Its weights", by: "each in proportion to the activation it carries" },
  activations: { title: "The activations before", by: "each in proportion to its weight" },
};

function drawWays() {
  const { layer, place } = state,
    facts = example().ways[layer][place],
    nudge = passage(layer, "nudge")[place];
  const ordered = [...facts.ways].sort((a, b) => b.length - a.length),
    most = ordered[0].length;
  const wants =
    nudge === 0 ? "does not care where it goes" : `wants it ${nudge > 0 ? "higher" : "lower"} (${signed(nudge)})`;
  const asleep = facts.slope === 0 ? " It is asleep: z is below zero, so no small step changes its activation." : "";
  const rows = ordered.map((way) =>
    el(
      "tr",
      { "data-way": way.kind },
      el(
        "th",
        { scope: "row" },
        WAYS[way.kind].title,
        el("div", { class: "small soft", style: "font-weight:400" }, WAYS[way.kind].by),
      ),
      el(
        "td",
        { class: "track" },
        el("div", { class: "bar", "aria-hidden": "true" }, el("i", { style: `--v:${ratio(way.length, most)}` })),
      ),
      el("td", { value: way.length }, `+${show(0.01 * way.length, 2)}`),
      way.together.map((value, i) =>
        el(
          "td",
          { value, "data-effect": i, class: i < 2 ? "" : value < 0 ? "up" : value > 0 ? "down" : "" },
          signed(value, 3),
        ),
      ),
    ),
  );
  put(
    $("ways-body"),
    el(
      "p",
      {},
      "Chosen: ",
      el("b", {}, neuronName(layer, place)),
      `. Its activation is ${show(passage(layer, "a")[place])}${inUnits(layer, place)}, and this example ${wants}.${asleep} There are three ways to raise it. A step of the same length, 0.01, really made along each:`,
    ),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        { class: "ways", id: "ways-table" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["way", "", "raises z by", "activation, predicted", "measured", "cost, predicted", "measured"].map(
              (name, i) => el("th", { scope: "col", class: i === 1 ? "track" : "" }, name),
            ),
          ),
        ),
        el("tbody", {}, rows),
      ),
    ),
    el(
      "p",
      { class: "note" },
      `Predicted is derivative × step; measured is the network computed again. ${nudge < 0 ? "Raising it raises the cost here, so the step to take is the opposite one. " : ""}Changing an activation before also moves this neuron's neighbours, so its effect on the cost comes through all of them.${waysUnits()}`,
    ),
    layer === 1 && data.picture ? neuronPictures(place) : null,
    el("div", { class: "two" }, levers(facts.ways[1], layer), levers(facts.ways[2], layer)),
  );
}

function levers(way, layer) {
  const most = largest(way.levers.map((lever) => lever[2])),
    isWeight = way.kind === "weights";
  const rows = way.levers.map(([k, value, slope], i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, inputName(layer - 1, k)),
      el("td", {}, show(value, 3)),
      el("td", { style: "min-width:70px" }, push(slope, most)),
      el("td", {}, signed(slope, 3)),
      el(
        "td",
        {
          class: way.single[i][3] < 0 ? "up" : way.single[i][3] > 0 ? "down" : "",
          value: way.single[i][3],
          tip: `predicted ${signed(way.single[i][2])}\nmeasured ${signed(way.single[i][3])}`,
        },
        signed(way.single[i][3], 2),
      ),
    ),
  );
  return el(
    "div",
    {},
    el("h4", {}, isWeight ? "The weights that matter most" : "The activations before that matter most"),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        { class: "small" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            [
              isWeight ? "from" : "of",
              isWeight ? "weight" : "active",
              "",
              isWeight ? "carries" : "weight",
              "cost*",
            ].map((name) => el("th", { scope: "col" }, name)),
          ),
        ),
        el("tbody", {}, rows),
      ),
    ),
    el("p", { class: "note" }, "* measured, when it alone moves by 0.01 in the direction that raises the neuron"),
  );
}

function inputName(layer, number) {
  if (layer > 0) return `${layer}:${number}`;
  if (data.picture)
    return `pixel ${Math.floor(number / data.picture[2] / data.picture[1])},${Math.floor(number / data.picture[2]) % data.picture[1]}`;
  const place = data.layers[0].drawn.indexOf(number);
  return place < 0 ? `#${number}` : data.layers[0].names[place];
}

function neuronPictures(place) {
  const now = Array.from({ length: width(0) }, (_, k) => weight(1, place, k)),
    asked = Array.from({ length: width(0) }, (_, k) => weightNudge(1, place, k));
  const show1 = (node, text) =>
    el("figure", {}, Object.assign(node, { className: "picture" }), el("figcaption", {}, text));
  return el(
    "div",
    { class: "pics" },
    show1(picture(example()), "the picture it looks at"),
    show1(
      heat(now, data.picture, "Its weights, one for each pixel"),
      "its weights now: blue positive, orange negative",
    ),
    show1(
      heat(asked, data.picture, "What its weights are asked"),
      "what this example asks of them: the picture itself, times one number",
    ),
  );
}

function tabs(chosen, name, choose) {
  const buttons = [];
  for (let layer = last; layer >= 1; layer--)
    buttons.push(
      el(
        "button",
        {
          type: "button",
          "aria-pressed": String(layer === chosen),
          onclick: () => {
            choose(layer);
            document.querySelector(`#${name} .tabs button[aria-pressed=true]`).focus();
          },
        },
        `${layer === last ? "output" : `layer ${layer}`} → ${layer === 1 ? "input" : `layer ${layer - 1}`}`,
      ),
    );
  return last > 1 ? el("div", { class: "tabs", role: "group", "aria-label": "Which layers" }, buttons) : null;
}

function cell(value, most, key, tip, className) {
  return el(
    "td",
    {},
    el("i", {
      class: `${value > 0 ? "p" : value < 0 ? "n" : ""} ${className || ""}`,
      style: `--v:${Math.sqrt(ratio(value, most)).toFixed(3)}`,
      value,
      "data-cell": key,
      tip,
      role: "img",
      "aria-label": tip,
    }),
  );
}

function drawWishes() {
  const layer = state.wishes,
    sums = passage(layer - 1, "nudge"),
    others = numbers(example().others[layer]);
  const rowsOf = Array.from({ length: width(layer) }, (_, j) =>
    Array.from({ length: width(layer - 1) }, (_, k) => wish(layer, j, k)),
  );
  const lead = el(
    "p",
    {},
    `Each row is one neuron of ${layerName(layer)} and what it would like ${layerName(layer - 1)} to do: −∂C/∂z of that neuron, times its weights. The last row is the sum of each column. That sum, and nothing else, is passed further back.`,
  );
  const body = isPicture(layer - 1)
    ? pictureRows(layer, rowsOf, others, sums)
    : matrixRows(layer, rowsOf, others, sums);
  put(
    $("wishes-body"),
    lead,
    tabs(layer, "wishes", (chosen) => {
      state.wishes = chosen;
      drawWishes();
    }),
    body,
  );
}

function matrixRows(layer, rowsOf, others, sums) {
  const most = Math.max(...rowsOf.map((row) => largest(row)), largest(isThinned(layer) ? others : [0])),
    mostSum = largest(sums);
  const head = el(
    "tr",
    {},
    el("th", {}),
    data.layers[layer - 1].names.map((name) => el("th", { scope: "col" }, clip(name, 9))),
  );
  const rows = rowsOf.map((row, j) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, clip(data.layers[layer].names[j], 12)),
      row.map((value, k) =>
        cell(
          value,
          most,
          `${layer}-${j}-${k}`,
          `${neuronName(layer, j)} wishes for ${neuronName(layer - 1, k)}: ${signed(value)}`,
        ),
      ),
    ),
  );
  if (isThinned(layer))
    rows.push(
      el(
        "tr",
        {},
        el("th", { scope: "row" }, `${data.layers[layer].size - width(layer)} others`),
        Array.from(others, (value, k) =>
          cell(
            value,
            most,
            `${layer}-others-${k}`,
            `the neurons not drawn wish for ${neuronName(layer - 1, k)}: ${signed(value)}`,
          ),
        ),
      ),
    );
  rows.push(
    el(
      "tr",
      { class: "sum" },
      el("th", { scope: "row" }, "sum"),
      Array.from(sums, (value, k) =>
        cell(
          value,
          mostSum,
          `${layer}-sum-${k}`,
          `all together wish for ${neuronName(layer - 1, k)}: ${signed(value)}`,
        ),
      ),
    ),
  );
  return [
    el("div", { class: "scroll" }, el("table", { class: "heat" }, el("thead", {}, head), el("tbody", {}, rows))),
    el(
      "p",
      { class: "note" },
      `Across: ${isThinned(layer - 1) ? `${width(layer - 1)} of ${data.layers[layer - 1].size} neurons of` : "the neurons of"} ${layerName(layer - 1)}. Down: ${layerName(layer)}. Blue: more, orange: less. Point at a cell for its number.`,
    ),
  ];
}

function pictureRows(layer, rowsOf, others, sums) {
  const most = Math.max(...rowsOf.map((row) => largest(row)));
  const figures = rowsOf.map((row, j) =>
    el(
      "figure",
      {},
      heat(row, data.picture, `What ${neuronName(layer, j)} wishes for each pixel`, "", most),
      el("figcaption", {}, layer === last ? data.layers[layer].names[j] : `neuron ${data.layers[layer].names[j]}`),
    ),
  );
  if (isThinned(layer))
    figures.push(
      el(
        "figure",
        {},
        heat(others, data.picture, "What the neurons not drawn wish for each pixel", ""),
        el("figcaption", {}, `${data.layers[layer].size - width(layer)} others`),
      ),
    );
  figures.push(
    el(
      "figure",
      { class: "sum" },
      heat(sums, data.picture, "The sum of all wishes for each pixel", ""),
      el("figcaption", {}, el("b", {}, "sum of all")),
    ),
  );
  return [
    el("div", { class: "smalls" }, figures),
    el(
      "p",
      { class: "note" },
      "Blue: this pixel brighter, orange: darker. A neuron that is asleep or content wishes for nothing. The sum is drawn on a scale of its own.",
    ),
  ];
}

function drawHebb() {
  const layer = state.hebb,
    asked = Array.from(passage(layer, "delta"), (delta) => -delta),
    carried = passage(layer - 1, "a");
  const lead = el(
    "p",
    {},
    "For one example the nudges of all weights between two layers are an outer product: one column of wishes times one row of activations. A weight is asked to grow most where an active neuron meets one that should be more active; a silent neuron's weights are asked nothing at all.",
  );
  const body = isPicture(layer - 1) ? hebbPictures(layer, asked, carried) : hebbMatrix(layer, asked, carried);
  put(
    $("hebb-body"),
    lead,
    tabs(layer, "hebb", (chosen) => {
      state.hebb = chosen;
      drawHebb();
    }),
    body,
  );
}

function hebbMatrix(layer, asked, carried) {
  const most = largest(asked) * largest(carried),
    mostAsked = largest(asked),
    mostCarried = largest(carried);
  const ranked = asked.flatMap((d) => Array.from(carried, (a) => Math.abs(d * a))).sort((a, b) => b - a),
    strong = ranked[2];
  const head = [
    el(
      "tr",
      {},
      el("th", {}),
      el("th", {}),
      data.layers[layer - 1].names.map((name) => el("th", { scope: "col" }, clip(name, 9))),
    ),
    el(
      "tr",
      {},
      el("th", { scope: "row" }, "activation"),
      el("td", {}),
      Array.from(carried, (a, k) =>
        el(
          "td",
          {},
          el("i", {
            class: "g",
            style: `--v:${ratio(a, mostCarried)}`,
            value: a,
            tip: `${neuronName(layer - 1, k)}: activation ${show(a)}`,
            role: "img",
            "aria-label": `activation ${show(a)}`,
          }),
        ),
      ),
    ),
  ];
  const rows = asked.map((d, j) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, clip(data.layers[layer].names[j], 12)),
      cell(d, mostAsked, `${layer}-asked-${j}`, `${neuronName(layer, j)}: wish −∂C/∂z ${signed(d)}`),
      Array.from(carried, (a, k) =>
        cell(
          d * a,
          most,
          `${layer}-${j}-${k}`,
          `${neuronName(layer - 1, k)} → ${neuronName(layer, j)}\n${signed(d)} × ${show(a)} = ${signed(d * a)}`,
          Math.abs(d * a) >= strong && d * a !== 0 ? "strong" : "",
        ),
      ),
    ),
  );
  return [
    el("div", { class: "scroll" }, el("table", { class: "heat" }, el("thead", {}, head), el("tbody", {}, rows))),
    el(
      "p",
      { class: "note" },
      "Top row: how active each neuron before is. Left column: the wish of each neuron after. Every cell is the product of the two; the three strongest are framed.",
    ),
  ];
}

function hebbPictures(layer, asked, carried) {
  const most = largest(asked) * largest(carried);
  const figures = asked.map((d, j) =>
    el(
      "figure",
      { tip: `${neuronName(layer, j)}: ${signed(d)} × the picture` },
      heat(
        Array.from(carried, (a) => d * a),
        data.picture,
        `Nudges of the weights of ${neuronName(layer, j)}`,
        "",
        most,
      ),
      el(
        "figcaption",
        {},
        layer === last ? data.layers[layer].names[j] : `neuron ${data.layers[layer].names[j]}`,
        el("div", { class: d > 0 ? "up" : "down" }, signed(d, 2)),
      ),
    ),
  );
  return [
    el("div", { class: "smalls" }, figures),
    el(
      "p",
      { class: "note" },
      "Each neuron's weights are asked to move along the input itself, times that neuron's own wish: the same picture again and again, blue or orange, strong or faint.",
    ),
  ];
}
