// @ts-check
/** A stored picture with what was said of it drawn on top; a switch takes the drawing away. */
import { ask, problemOf } from "./forms.js";
import { drawOverlay, fit, prepareCanvas } from "./overlay.js";

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

/** Pictures that the server wrote into the page. */
export function wirePictures(/** @type {ParentNode} */ root = document) {
  for (const figure of root.querySelectorAll("[data-overlay]")) layOver(/** @type {HTMLElement} */ (figure));
  for (const found of root.querySelectorAll("[data-overlay-switch]")) {
    const box = /** @type {HTMLInputElement} */ (found);
    const canvas = document.querySelector("[data-overlay] > canvas");
    box.addEventListener("change", () => canvas?.toggleAttribute("hidden", !box.checked));
  }
}
