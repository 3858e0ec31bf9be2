"use strict";
// What is said where training scaled the targets, and where examples have weights; nothing is said where not.

const units = data.data.target_units;
const isWeighted = data.data.is_weighted;
const MOST_UNITS = 3;

// A number in the units of the data: as elsewhere, but a large one of scaled targets is told with more digits.
function tell(value, digits = 3) {
  const size = Math.abs(value);
  if (!units || size < 1e5) return show(value, digits);
  if (size < 1e9) return count(Math.round(value)).replace("-", "−");
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e+");
  return `${mantissa.replace("-", "−")}·10${exponent.replace(/./g, (digit) => SUPERSCRIPTS[digit])}`;
}

// Of a chosen neuron of the output layer: its activation in the units of the data.
const inUnits = (layer, place) =>
  units && layer === last ? `, which is ${tell(example().outputs[place])} in the units of the data` : "";

function unitsNote() {
  if (!units) return null;
  const each = units.names
    .slice(0, MOST_UNITS)
    .map((name, i) => `${name}: (${name} − ${tell(units.mean[i])}) / ${tell(units.deviation[i])}`);
  const more = units.names.length > MOST_UNITS ? `, and so on for ${units.names.length} targets` : "";
  return el(
    "p",
    { class: "note", id: "units-note" },
    `Training scaled what it learns to predict to mean 0 and deviation 1 (${each.join("; ")}${more}). What the network says, what is wanted, and costs are shown in the units of your data. Activations, wishes and nudges are those of the scaled values, which training works with; so are the costs of the three ways.`,
  );
}

function weightNote() {
  if (!isWeighted) return null;
  return el(
    "p",
    { class: "note", id: "weight-note" },
    `The examples have weights. What one example asks is shown without its weight, and counts in the average with it: an average is the sum of weight × wish, divided by the sum of the weights (${show(data.batch.total_weight, 4)} in the mini-batch). Shares and average costs count in the same way.`,
  );
}

const weightLine = (pull) => (isWeighted ? `\nweight ${show(pull.weight)}` : "");

const waysUnits = () => (units ? " The costs here are those of the scaled targets." : "");

// What the run's optimizer does to the average before it is a step.
function stepExtras() {
  const { kind, momentum, weight_decay, largest_norm } = data.optimizer;
  const added = [kind === "sgd" && momentum > 0 ? "momentum" : "", weight_decay > 0 ? "weight decay" : ""].filter(
    Boolean,
  );
  const parts = [
    largest_norm === null ? "" : `cuts an average longer than ${show(largest_norm)} down to this length`,
    kind === "adamw" ? "divides each number by its usual size (AdamW)" : "",
    added.length ? `adds ${added.join(" and ")}` : "",
  ].filter(Boolean);
  return parts.length ? ` (the run ${parts.join(", ")})` : "";
}
