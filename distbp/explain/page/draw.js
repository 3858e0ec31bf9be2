"use strict";
// Making elements, numbers, colours and pictures. Nothing here knows what the page is about.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style")
      node.style.cssText = value; // through the object model, so that no policy is in the way
    else if (name === "tip") node.dataset.tip = value;
    else if (name === "value") node.dataset.value = String(value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) node.append(child);
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Replace all that is in an element.
function put(node, ...children) {
  node.replaceChildren();
  return fill(node, {}, children);
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// Arrays come as lists, or packed as float32.
function numbers(value) {
  return typeof value === "string" ? new Float32Array(bytes(value).buffer) : value;
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function show(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e5) return String(value).replace("-", "−");
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5)
    return (size >= 10 ** digits - 0.5 ? value.toFixed(0) : value.toPrecision(digits)).replace("-", "−");
  const [mantissa, exponent] = value.toExponential(1).split("e");
  const power = String(Number(exponent)).replace(/./g, (letter) => SUPERSCRIPTS[letter]);
  return `${mantissa.replace("-", "−")}·10${power}`;
}

const signed = (value, digits) => (value > 0 ? "+" : "") + show(value, digits);
const percent = (value) =>
  value > 0 && value < 0.001
    ? "< 0.1 %"
    : value < 1 && value > 0.9995
      ? "99.9 %"
      : `${+(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
const count = (value) => value.toLocaleString("en");
const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const sign = (value) => (value > 0 ? "pos" : value < 0 ? "neg" : "");
const ratio = (value, most) => (most > 0 ? Math.abs(value) / most : 0);

function parseColor(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
  return [0, 2, 4].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

function mix(from, to, part) {
  return from.map((value, i) => Math.round(value + (to[i] - value) * part));
}

// A canvas with one pixel for each value; `paint` gives [red, green, blue] for pixel number p.
function canvas(shape, label, className, paint) {
  const [rows, columns] = shape;
  const node = el("canvas", { width: columns, height: rows, role: "img", "aria-label": label, class: className });
  const context = node.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let p = 0; p < rows * columns; p++) {
    const color = paint(p);
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = color[c];
    image.data[4 * p + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return node;
}

// Bytes as they are: grey, or red, green and blue.
function photo(packed, shape, label, className) {
  const values = bytes(packed),
    channels = shape[2];
  return canvas(shape, label, className, (p) =>
    channels === 3 ? [0, 1, 2].map((c) => values[3 * p + c]) : [0, 0, 0].fill(values[p * channels]),
  );
}

// Numbers around 0: blue up, orange down, the square root so that small ones show.
function heat(values, shape, label, className, most = largest(values)) {
  const [up, down, none] = ["--up", "--down", "--cell"].map(parseColor),
    channels = shape[2];
  return canvas(shape, label, className, (p) => {
    let value = 0;
    for (let c = 0; c < channels; c++) value += values[p * channels + c];
    return mix(none, value > 0 ? up : down, Math.min(1, Math.sqrt(ratio(value, most))));
  });
}

function push(value, most, className = "") {
  return el(
    "div",
    { class: "push", "aria-hidden": "true" },
    el("i", { class: `${sign(value)} ${className}`, style: `--v:${ratio(value, most)}` }),
  );
}

function startTips() {
  const tip = $("tip");
  const hide = () => {
    tip.hidden = true;
  };
  const reveal = (event) => {
    const owner = event.target.closest?.("[data-tip]");
    if (!owner) return hide();
    tip.textContent = owner.dataset.tip;
    tip.hidden = false;
    const box = owner.getBoundingClientRect(),
      own = tip.getBoundingClientRect();
    const left = Math.max(6, Math.min(innerWidth - own.width - 6, box.left + box.width / 2 - own.width / 2));
    const above = box.top - own.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : Math.min(innerHeight - own.height - 6, box.bottom + 8)}px`;
  };
  document.addEventListener("pointerover", reveal);
  document.addEventListener("focusin", reveal);
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
}
