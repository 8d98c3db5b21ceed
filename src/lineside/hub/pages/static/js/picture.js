// @ts-check
/** A stored picture with what was said of it drawn on top; a switch takes the drawing away. */
import { drawOverlay, fit, prepareCanvas } from "./overlay.js";

/**
 * @param {HTMLElement} figure holds an <img> and a <canvas>
 * @param {any} prediction @param {any} plan
 */
export function layOver(figure, prediction, plan) {
  const image = /** @type {HTMLImageElement} */ (figure.querySelector("img"));
  const canvas = /** @type {HTMLCanvasElement} */ (figure.querySelector("canvas"));
  const draw = () => {
    const { context, size } = prepareCanvas(canvas);
    if (!image.naturalWidth || !size.width || !prediction) return;
    const picture = { width: image.naturalWidth, height: image.naturalHeight };
    drawOverlay(context, fit(picture, size), prediction, plan, picture);
  };
  image.addEventListener("load", draw);
  new ResizeObserver(draw).observe(canvas);
  draw();
}

/** Pictures that the server wrote into the page. */
export function wirePictures(root = document) {
  for (const found of root.querySelectorAll("[data-overlay]")) {
    const figure = /** @type {HTMLElement} */ (found);
    const prediction = JSON.parse(figure.dataset.overlay ?? "null");
    layOver(figure, prediction, JSON.parse(figure.dataset.plan ?? "null"));
  }
  for (const found of root.querySelectorAll("[data-overlay-switch]")) {
    const box = /** @type {HTMLInputElement} */ (found);
    const canvas = document.querySelector("[data-overlay] > canvas");
    box.addEventListener("change", () => canvas?.toggleAttribute("hidden", !box.checked));
  }
}
