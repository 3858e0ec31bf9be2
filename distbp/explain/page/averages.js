"use strict";
// Sections 6, 7 and 8: the average over all examples, one class only, and the costs.

function drawAverage() {
  const effect = data.step_effect,
    shown = example();
  const all = data.all.is_sample
    ? `an even sample of ${count(data.all.num_examples)} of ${count(data.data.num_examples)} examples`
    : `all ${count(data.all.num_examples)} examples`;
  put(
    $("average-body"),
    el(
      "p",
      {},
      `One example alone would teach the network about nothing but itself. So every example is asked, and what they ask is averaged. The average is minus the gradient of the average cost; times the learning rate it is the step that gradient descent takes${stepExtras()}. Below, the weights and biases that ${all} together most want changed, layer by layer.`,
    ),
    wishTable(data.table),
    el(
      "p",
      { class: "note" },
      `Columns: the example explained, then others of the mini-batch from the one with the longest gradient${isWeighted ? " (times its weight)" : ""} down to the median. Blue: increase, orange: decrease; each row has its own colour scale.`,
    ),
    isWeighted ? el("p", { class: "note" }, `What an example asks stands here without its weight. In the averages it counts with it: the sum of weight × wish over the sum of the weights, ${show(data.batch.total_weight, 4)} in this mini-batch.`) : null,
    el("h3", {}, "Who pulls?"),
    el(
      "p",
      {},
      `The gradient of each example${isWeighted ? ", times its weight," : ""} can be split into a part along the average and a part across it. The parts along it add up to the average itself: an example's share. Example ${shown.index} pulls `,
      el(
        "b",
        { value: shown.share * data.all.num_examples, "data-fact": "share" },
        `${signed(shown.share * data.all.num_examples, 2)} times`,
      ),
      ` an equal share, and its direction agrees with the average by a cosine of ${signed(shown.agreement, 2)}.`,
    ),
    batchBars(),
    el(
      "div",
      { class: "two" },
      gallery("They pull hardest", data.all.hardest),
      gallery("They pull against the average", data.all.opposing),
    ),
    el("h3", {}, "A mini-batch asks only a few"),
    el(
      "div",
      { class: "two" },
      el("div", {}, fanChart(data.batches)),
      el(
        "div",
        {},
        el(
          "p",
          {},
          `Each thin arrow is the average of one mini-batch of ${data.batch.num_examples}, drawn at its true angle to the average of all (thick). ${fanSentence(data.batches)}`,
        ),
        el(
          "p",
          {},
          `One plain step at the learning rate of this moment, ${show(effect.learning_rate)}, takes the average cost from `,
          el("b", { value: effect.before }, tell(effect.before, units ? 6 : 4)),
          " to ",
          el("b", { value: effect.after_batch }, tell(effect.after_batch, units ? 6 : 4)),
          ` along the next mini-batch, and to `,
          el("b", { value: effect.after_all }, tell(effect.after_all, units ? 6 : 4)),
          ` along all. Asking all costs ${show(data.data.num_examples / data.batch.num_examples, 3)} times as much.`,
        ),
      ),
    ),
  );
}

function fanSentence(fan) {
  const angles = fan.agreements
    .map((cosine) => (Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI)
    .sort((a, b) => a - b);
  const middle = angles[Math.floor(angles.length / 2)];
  return angles.length === 1
    ? "This batch holds all the examples."
    : `The middle one of ${angles.length} is ${middle.toFixed(0)}° off: not the true way down, but ${middle < 90 ? "still downhill" : "hardly downhill"}.`;
}

function wishTable(table) {
  const heads = table.examples.map((index) => data.examples.find((shown) => shown.index === index));
  const head = el(
    "tr",
    {},
    el("th", {}),
    heads.map((shown) => el("th", { scope: "col" }, thumb(shown, 34), labelOf(shown) || `#${shown.index}`, isWeighted ? el("div", { class: "small soft", value: shown.weight, "data-weight": shown.index }, `weight ${show(shown.weight, 3)}`) : null)),
    el("th", { class: "avg", scope: "col" }, `mini-batch\nof ${data.batch.num_examples}`),
    el("th", { class: "avg", scope: "col" }, data.all.is_sample ? "sample" : "all"),
  );
  const rows = [];
  table.names.forEach(({ layer, before, neuron }, row) => {
    if (row === 0 || table.names[row - 1].layer !== layer)
      rows.push(
        el(
          "tr",
          { class: "layer" },
          el(
            "th",
            { colspan: heads.length + 3, scope: "colgroup" },
            layer === last ? "into the output layer" : `into layer ${layer}`,
          ),
        ),
      );
    const values = [...table.wishes[row], table.batch_average[row], table.all_average[row]],
      most = largest(values);
    const name =
      before === null
        ? `bias of ${target(layer, neuron)}`
        : `${inputName(layer - 1, before)} → ${target(layer, neuron)}`;
    rows.push(
      el(
        "tr",
        {},
        el("th", { scope: "row" }, name),
        values.map((value, i) =>
          el(
            "td",
            { class: i >= heads.length ? "avg" : "" },
            el(
              "span",
              {
                class: `wish ${value > 0 ? "p" : value < 0 ? "n" : ""}`,
                style: `--v:${(0.75 * Math.sqrt(ratio(value, most))).toFixed(3)}`,
                value,
                "data-wish": `${row}-${i}`,
              },
              value === 0 ? "·" : signed(value, 2),
            ),
          ),
        ),
      ),
    );
  });
  return el(
    "div",
    { class: "scroll" },
    el("table", { class: "wishes-table", id: "wish-table" }, el("thead", {}, head), el("tbody", {}, rows)),
  );
}

function target(layer, neuron) {
  const place = data.layers[layer].drawn.indexOf(neuron);
  return layer === last && place >= 0 ? data.layers[layer].names[place] : String(neuron);
}

function gallery(title, pulls) {
  const items = pulls.map((pull) =>
    el(
      "li",
      {
        tip: `example ${pull.index}\ncost ${show(pull.cost)}${weightLine(pull)}\n${signed(pull.share * data.all.num_examples)} times an equal share\ncosine ${signed(pull.agreement, 2)}`,
      },
      thumb(pull, 58),
      el("b", {}, pull.label === null ? `#${pull.index}` : String(pull.label)),
      `${signed(pull.share * data.all.num_examples, 2)}×`,
    ),
  );
  return el(
    "div",
    {},
    el("h4", {}, title),
    pulls.length ? el("ul", { class: "gallery" }, items) : el("p", { class: "soft" }, "Nobody does."),
  );
}

function batchBars() {
  const shares = data.batch.examples.map((pull) => pull.share * data.batch.num_examples),
    most = Math.max(...shares, 0),
    least = Math.min(...shares, 0);
  const W = 1000,
    H = 150,
    zero = 8 + ((H - 16) * most) / (most - least || 1),
    step = W / shares.length;
  const bars = shares.map((share, i) => {
    const end = 8 + ((H - 16) * (most - share)) / (most - least || 1),
      pull = data.batch.examples[i];
    return svg("rect", {
      x: i * step + step * 0.1,
      y: Math.min(zero, end),
      width: step * 0.8,
      height: Math.max(0.6, Math.abs(end - zero)),
      class: `arrow ${sign(share)}`,
      value: share,
      "data-share": pull.index,
      tip: `example ${pull.index}${pull.label === null ? "" : ` (${pull.label})`}\n${signed(share)} times an equal share\ncosine ${signed(pull.agreement, 2)}, cost ${show(pull.cost)}${weightLine(pull)}`,
    });
  });
  const against = shares.filter((share) => share < 0).length,
    sorted = [...shares].sort((a, b) => b - a);
  let sum = 0,
    half = 0;
  while (half < sorted.length && sum < data.batch.num_examples / 2) sum += sorted[half++];
  return el(
    "figure",
    { class: "stage" },
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        preserveAspectRatio: "none",
        style: "height: 150px",
        role: "img",
        "aria-label": `Pull of each of the ${shares.length} examples of the mini-batch, from ${signed(shares[0])} to ${signed(shares[shares.length - 1])} times an equal share`,
      },
      svg("line", { x1: 0, x2: W, y1: zero, y2: zero, stroke: "var(--ring)" }),
      bars,
    ),
    el(
      "figcaption",
      {},
      `The ${data.batch.num_examples} examples of the next mini-batch, each with its pull on the mini-batch's own average, strongest first. ${half === 1 ? "One alone makes" : `${half} of them make`} half of it; ${against === 0 ? "nobody pulls" : against === 1 ? "one pulls" : `${against} pull`} against it.`,
    ),
  );
}

function fanChart(fan) {
  const W = 420,
    H = 300,
    x0 = 40,
    y0 = H / 2;
  const across = fan.agreements.map((cosine, i) => fan.lengths[i] * Math.sqrt(Math.max(0, 1 - cosine * cosine)));
  const along = fan.agreements.map((cosine, i) => fan.lengths[i] * cosine);
  const scale = Math.min(
    (W - x0 - 70) / Math.max(data.all.gradient_length, ...along),
    (H / 2 - 12) / Math.max(1e-300, ...across),
    (x0 - 8) / Math.max(1e-300, ...along.map((part) => -part)),
  );
  const line = (x, y, attributes) =>
    svg("path", {
      d: `M${x0} ${y0}L${x0 + scale * x} ${y0 + scale * y}`,
      fill: "none",
      "stroke-linecap": "round",
      ...attributes,
    });
  return el(
    "figure",
    { class: "stage" },
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        role: "img",
        "aria-label": `Averages of ${fan.lengths.length} mini-batches against the average of all`,
      },
      fan.lengths.map((length, i) =>
        line(along[i], i % 2 ? across[i] : -across[i], {
          stroke: "var(--soft)",
          "stroke-width": 2,
          opacity: 0.55,
          value: fan.agreements[i],
          "data-batch": i,
          tip: `mini-batch ${i + 1}\nlength ${show(length)}\ncosine ${signed(fan.agreements[i], 2)}`,
        }),
      ),
      line(data.all.gradient_length, 0, {
        stroke: "var(--accent)",
        "stroke-width": 6,
        tip: `average of all\nlength ${show(data.all.gradient_length)}`,
      }),
      svg("circle", { cx: x0, cy: y0, r: 5, fill: "var(--ink)" }),
      svg("text", { x: W - 4, y: y0 + 4, "text-anchor": "end", class: "soft" }, "downhill →"),
    ),
  );
}

function drawListening() {
  if (data.listening.length === 0) {
    $("listening").hidden = true;
    return;
  }
  const first = data.listening[0],
    steps = first.steps[first.steps.length - 1];
  const names = data.step === 0 ? ["untrained"] : ["this network", "untrained"];
  const end = (listening) => percent(listening.called[listening.called.length - 1][listening.class_number]);
  const sentence = data.listening
    .map(
      (listening, i) =>
        `${i === 0 ? (data.step === 0 ? "The untrained network" : "This network") : "The untrained one"} then calls ${end(listening)} of ${count(listening.num_watched)} examples of all classes “${listening.label}”`,
    )
    .join(". ");
  put(
    $("listening-body"),
    el(
      "p",
      {},
      `What if only examples of “${first.label}” had a say? ${steps} steps of SGD were really made, with the run's own optimizer and ${first.batch_size} examples a step, on nothing but the ${count(first.num_heard)} examples of “${first.label}”. ${sentence}.${contentNote(first)}`,
    ),
    el("div", { class: "two" }, lineChart(first.label, names), endBars(names)),
  );
}

function contentNote(listening) {
  const rise =
    listening.called[listening.called.length - 1][listening.class_number] - listening.called[0][listening.class_number];
  return data.step > 0 && rise < 0.05
    ? " The trained one is hardly moved: it is already right about these examples, so they ask for next to nothing. The untrained one believes whatever it is told."
    : " That is why everyone must be asked.";
}

function lineChart(label, names) {
  const W = 480,
    H = 270,
    left = 44,
    right = 12,
    top = 14,
    bottom = 40,
    steps = data.listening[0].steps,
    end = steps[steps.length - 1];
  const x = (step) => left + ((W - left - right) * step) / end,
    y = (share) => top + (H - top - bottom) * (1 - share);
  const colors = ["var(--accent)", "var(--down)"];
  const lines = data.listening.map((listening, i) => {
    const shares = listening.called.map((row) => row[listening.class_number]);
    const d = shares.map((share, t) => `${t ? "L" : "M"}${x(steps[t]).toFixed(1)} ${y(share).toFixed(1)}`).join("");
    const tips = shares.map((share, t) =>
      svg("circle", {
        cx: x(steps[t]),
        cy: y(share),
        r: 3.2,
        fill: colors[i],
        value: share,
        "data-called": `${i}-${t}`,
        tip: `${names[i]}, after ${steps[t]} steps\ncalls ${percent(share)} “${label}”\naccuracy ${percent(listening.accuracies[t])}`,
      }),
    );
    return [
      svg("path", { d, fill: "none", stroke: colors[i], "stroke-width": 2.5, "stroke-dasharray": i ? "6 4" : null }),
      tips,
    ];
  });
  const grid = [0, 0.5, 1].map((share) => [
    svg("line", { x1: left, x2: W - right, y1: y(share), y2: y(share), stroke: "var(--line)" }),
    svg("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end", class: "soft" }, `${100 * share} %`),
  ]);
  const key = names
    .slice(0, data.listening.length)
    .map((name, i) =>
      svg(
        "g",
        {},
        svg("line", {
          x1: left + 140 * i,
          x2: left + 140 * i + 24,
          y1: H - 4,
          y2: H - 4,
          stroke: colors[i],
          "stroke-width": 3,
          "stroke-dasharray": i ? "6 4" : null,
        }),
        svg("text", { x: left + 140 * i + 30, y: H, class: "soft" }, name),
      ),
    );
  return el(
    "figure",
    { class: "stage" },
    el("h4", {}, `Share of all examples called “${label}”`),
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H + 4}`,
        role: "img",
        "aria-label": `Share of all examples called ${label}, over ${end} steps`,
      },
      grid,
      lines,
      key,
      [0, end / 2, end].map((step) =>
        svg(
          "text",
          { x: x(step), y: H - bottom + 18, "text-anchor": step === end ? "end" : "middle", class: "soft" },
          step === end ? `${step} steps` : step,
        ),
      ),
    ),
  );
}

function endBars(names) {
  const rows = data.listening[0].called[0].map((_, c) => c).filter((c) => data.layers[last].drawn.includes(c));
  const table = el(
    "table",
    { class: "outs small" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, "said"),
        names.slice(0, data.listening.length).map((name) => el("th", { scope: "col", colspan: 2 }, name)),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map((c) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, data.layers[last].names[data.layers[last].drawn.indexOf(c)]),
          data.listening.map((listening) => {
            const share = listening.called[listening.called.length - 1][c];
            return [
              el(
                "td",
                { class: "track" },
                el("div", { class: "bar", "aria-hidden": "true" }, el("i", { style: `--v:${share}` })),
              ),
              el("td", { value: share }, percent(share)),
            ];
          }),
        ),
      ),
    ),
  );
  return el("div", {}, el("h4", {}, "What is said of all examples at the end"), el("div", { class: "scroll" }, table));
}

function drawCosts() {
  const costs = data.all.costs,
    W = 1000,
    H = 230,
    top = 44,
    bottom = 34,
    bins = costs.counts.length,
    most = Math.max(...costs.counts);
  const low = Math.log(costs.edges[0]),
    high = Math.log(costs.edges[bins]);
  const x = (cost) =>
    10 + ((W - 20) * (Math.log(Math.min(Math.max(cost, costs.edges[0]), costs.edges[bins])) - low)) / (high - low);
  const bars = costs.counts.map((number, i) =>
    svg("rect", {
      x: x(costs.edges[i]) + 1,
      width: x(costs.edges[i + 1]) - x(costs.edges[i]) - 2,
      y: H - bottom - ((H - top - bottom) * number) / most,
      height: ((H - top - bottom) * number) / most,
      fill: "var(--ring)",
      rx: 2,
      value: number,
      "data-bin": i,
      tip: `${count(number)} examples cost ${show(costs.edges[i], 2)} to ${show(costs.edges[i + 1], 2)}`,
    }),
  );
  const mark = (cost, text, y, color) => {
    const at = x(cost),
      anchor = at > W - 160 ? "end" : "start";
    return svg(
      "g",
      {},
      svg("line", { x1: at, x2: at, y1: y + 4, y2: H - bottom, stroke: color, "stroke-width": 2 }),
      svg(
        "text",
        {
          x: at + (anchor === "end" ? -4 : 4),
          y: y + 10,
          "text-anchor": anchor,
          style: `fill:${color};font-weight:600`,
        },
        text,
      ),
    );
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const cost = Math.exp(low + part * (high - low));
    return svg(
      "text",
      { x: x(cost), y: H - 12, class: "soft", "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle" },
      show(cost, 2),
    );
  });
  put(
    $("costs-body"),
    el(
      "p",
      {},
      `The cost of training is an average over ${count(data.all.num_examples)} examples, and not all have the same part in it${isWeighted ? ": each counts with its cost times its weight" : ""}. The costliest ${percent(costs.top_fractions[0])} of the examples carry `,
      el("b", { value: costs.carried[0], "data-fact": "carried" }, percent(costs.carried[0])),
      ` of the total, the costliest ${percent(costs.top_fractions[2])} carry `,
      el("b", {}, percent(costs.carried[2])),
      `. The median is ${tell(costs.quantiles[2])}, the average ${tell(data.all.cost)}.`,
    ),
    el(
      "figure",
      { class: "stage" },
      svg(
        "svg",
        {
          viewBox: `0 0 ${W} ${H}`,
          role: "img",
          "aria-label": `Distribution of the cost on a logarithmic axis, this example at ${show(example().cost)}, the average at ${show(data.all.cost)}`,
        },
        bars,
        mark(data.all.cost, "average", 0, "var(--accent)"),
        mark(example().cost, "this example", 16, "var(--down)"),
        ticks,
      ),
      el(
        "figcaption",
        {},
        `How many examples cost how much; the axis is logarithmic.${costs.quantiles[0] < costs.edges[0] ? " The first bar also holds those that cost still less." : ""}`,
      ),
    ),
    gallery2(isWeighted ? "The costliest, by cost × weight" : "The costliest", data.all.costliest),
  );
}

function gallery2(title, pulls) {
  return el(
    "div",
    {},
    el("h4", {}, title),
    el(
      "ul",
      { class: "gallery" },
      pulls.map((pull) =>
        el(
          "li",
          { tip: `example ${pull.index}` },
          thumb(pull, 58),
          el("b", {}, pull.label === null ? `#${pull.index}` : String(pull.label)),
          show(pull.cost, 2),
          isWeighted ? el("span", { class: "small soft" }, ` × ${show(pull.weight, 2)}`) : null,
        ),
      ),
    ),
  );
}
