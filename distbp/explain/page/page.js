"use strict";
// Choosing an example and a neuron, drawing everything, and the keyboard.

function drawChooser() {
  const picks = data.examples.map((shown, i) =>
    el(
      "button",
      {
        type: "button",
        class: "pick",
        role: "radio",
        "aria-checked": i === state.example ? "true" : "false",
        tabindex: i === state.example ? 0 : -1,
        "data-index": shown.index,
        onclick: () => chooseExample(i),
        "aria-label": `Example ${shown.index}${labelOf(shown) && `, which is ${labelOf(shown)}`}, cost ${show(shown.cost)}`,
      },
      thumb(shown),
      el(
        "span",
        { class: data.picture ? "" : "plain" },
        el("b", {}, labelOf(shown) || `#${shown.index}`),
        `cost ${show(shown.cost, 2)}`,
      ),
    ),
  );
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
  const inStrip = event.target.closest?.("#examples");
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
addEventListener("resize", () => {
  if (innerWidth !== widthBefore) {
    widthBefore = innerWidth;
    drawStage();
  }
});
startTips();
drawHeader();
drawAll();
drawListening();
$("footer").textContent =
  `Made by distbp from ${data.run}, step ${data.step}, digest ${data.digest}. The parameters are those of the checkpoint, the arithmetic is float64${data.network.dropout > 0 ? ", nothing is dropped out" : ""}. Predicted changes come from backpropagation, measured ones from computing the network again.`;
document.documentElement.dataset.ready = String(Math.round(performance.now()));
