"use strict";
// What is there to show: `data` is what contents.py made, `state` is what the reader chose. All else is drawn from these.

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
  if (isPicture(layer))
    return `pixel ${Math.floor(layerData.drawn[place] / data.picture[1])},${layerData.drawn[place] % data.picture[1]}`;
  if (layer === last)
    return data.network.is_classification ? `output “${layerData.names[place]}”` : `output ${layerData.names[place]}`;
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
