// @ts-check
/** A stored picture with what was said of it drawn on top; a switch takes the drawing away. */
import { ask, problemOf } from "./forms.js";
import { drawOverlay, fit, prepareCanvas } from "./overlay.js";
import { Zoom } from "./zoom.js";

const STEPS = { in: 1.5, out: 1 / 1.5, whole: 0 };
const KEYS = { "+": "in", "-": "out", 0: "whole" };

/** @type {WeakMap<HTMLElement, string>} */
const wanted = new WeakMap();

/**
 * Lay where the network looked over a picture; an empty address takes it away.
 * @param {HTMLElement} figure @param {string} address @param {(text: string) => void} say @param {string} [label]
 */
export async function heatOver(figure, address, say, label = "this answer") {
  figure.querySelector("img.heat")?.remove();
  wanted.set(figure, address);
  say("");
  if (!address) return;
  say("Computing …");
  const response = await ask(address);
  if (wanted.get(figure) !== address) return;
  if (!response.ok) {
    const { title, text } = await problemOf(response);
    return say(`${title}: ${text}`);
  }
  const image = document.createElement("img");
  image.className = "heat";
  image.alt = `Where the network looked for ${label}`;
  image.src = URL.createObjectURL(await response.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  figure.querySelector("img")?.after(image);
  say(`Brighter: looked at more for ${label}.`);
}

/** Returns what draws it anew, as an event `overlay` does. @param {HTMLElement} figure with `data-overlay`; holds an <img> and a <canvas> */
export function layOver(figure) {
  const image = /** @type {HTMLImageElement} */ (figure.querySelector("img"));
  const canvas = /** @type {HTMLCanvasElement} */ (figure.querySelector("canvas"));
  const draw = () => {
    const overlay = JSON.parse(figure.dataset.overlay ?? "null");
    const { context, size } = prepareCanvas(canvas);
    if (!image.naturalWidth || !size.width || !overlay) return;
    const picture = { width: image.naturalWidth, height: image.naturalHeight };
    drawOverlay(context, fit(picture, size), overlay, picture);
  };
  image.addEventListener("load", draw);
  figure.addEventListener("overlay", draw);
  new ResizeObserver(draw).observe(canvas);
  draw();
  return draw;
}

/** Zoom by the buttons `data-zoom`, a double click or Ctrl and the wheel; a drag pans. @param {HTMLElement} figure @param {ParentNode} root holds the buttons */
function wireZoom(figure, root) {
  const zoom = new Zoom(figure);
  /** @param {number} factor 0 shows all @param {MouseEvent} [event] */
  const by = (factor, event) => {
    const { width, height } = figure.getBoundingClientRect();
    zoom.size = { width, height };
    if (factor) zoom.zoomBy(factor, event && zoom.at(event));
    else zoom.reset();
    const { x, y } = zoom.place();
    figure.style.setProperty("--zoom", `translate(${x}px, ${y}px) scale(${zoom.zoom})`);
    figure.toggleAttribute("data-zoomed", zoom.zoom > 1);
  };
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-zoom]"))) {
    button.addEventListener("click", () => by(STEPS[/** @type {keyof typeof STEPS} */ (button.dataset.zoom)]));
  }
  figure.addEventListener("dblclick", (event) => by(2, event));
  figure.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    by(Math.exp(-event.deltaY / 200), event);
  });
  figure.addEventListener("pointerdown", (event) => {
    if (zoom.zoom > 1) figure.setPointerCapture(event.pointerId);
    if (zoom.zoom > 1) event.preventDefault();
  });
  figure.addEventListener("pointermove", (event) => {
    if (!figure.hasPointerCapture(event.pointerId)) return;
    zoom.panBy(event.movementX, event.movementY);
    by(1);
  });
}

/** The keys of the buttons. @param {KeyboardEvent} event */
function press(event) {
  const typing = event.target instanceof Element && event.target.matches("input:not([type=checkbox]), select, textarea");
  const step = KEYS[/** @type {keyof typeof KEYS} */ (event.key)];
  if (!step || typing || event.ctrlKey || event.altKey || event.metaKey) return;
  /** @type {HTMLElement | null} */ (document.querySelector(`[data-zoom="${step}"]`))?.click();
}

if (typeof document !== "undefined") document.addEventListener("keydown", press);

/** Pictures that the server wrote into the page. */
export function wirePictures(/** @type {ParentNode} */ root = document) {
  for (const figure of root.querySelectorAll("[data-overlay]")) layOver(/** @type {HTMLElement} */ (figure));
  for (const figure of root.querySelectorAll("[data-zooms]")) wireZoom(/** @type {HTMLElement} */ (figure), root);
  for (const found of root.querySelectorAll("[data-overlay-switch]")) {
    const box = /** @type {HTMLInputElement} */ (found);
    const canvas = document.querySelector("[data-overlay] > canvas");
    box.addEventListener("change", () => canvas?.toggleAttribute("hidden", !box.checked));
  }
}
