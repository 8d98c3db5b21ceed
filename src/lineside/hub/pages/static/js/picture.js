// @ts-check
/** A stored picture with what was said of it drawn on top; a switch takes the drawing away. */
import { drawOverlay, fit, prepareCanvas } from "./overlay.js";

/** Returns what draws it anew. @param {HTMLElement} figure with `data-overlay`; holds an <img> and a <canvas> */
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
