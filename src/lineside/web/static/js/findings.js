// @ts-check
/** Draws what was found anywhere on a picture: objects and defect pixels. */
import { probability } from "./format.js";
import { drawRegion } from "./outline.js";

/** @typedef {import("./outline.js").Place} Place */

const MASK = "rgba(214,0,147,0.55)";
const TAGGED_PX = 48;

/**
 * @param {CanvasRenderingContext2D} context @param {Place} place
 * @param {Record<string, any>} prediction
 */
export function drawFindings(context, place, prediction) {
  if (prediction.mask) drawMask(context, place, prediction.mask);
  for (const box of prediction.boxes ?? []) drawBox(context, place, box);
}

/**
 * An object that was found; where there are many, tags would hide them.
 * @param {CanvasRenderingContext2D} context @param {Place} place
 * @param {{label: string, x0_px: number, y0_px: number, x1_px: number, y1_px: number, probability: number, decision: string}} box
 */
function drawBox(context, place, box) {
  const { x0_px: x0, y0_px: y0, x1_px: x1, y1_px: y1 } = box;
  const around = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]; // prettier-ignore
  const points = around.map(([x, y]) => [place.x + x * place.scale, place.y + y * place.scale]);
  const wide = (x1 - x0) * place.scale >= TAGGED_PX;
  const mark = box.decision === "unsure" ? "?" : "";
  const text = wide ? `${box.label}${mark} ${probability(box.probability)}` : "";
  drawRegion(context, points, { decision: box.decision, text }, place);
}

/**
 * Defect pixels, translucent; run lengths go down the columns and begin with zeros.
 * @param {CanvasRenderingContext2D} context @param {Place} place
 * @param {{rle: string, width_px: number, height_px: number}} mask
 */
function drawMask(context, place, { rle, width_px: width, height_px: height }) {
  const layer = new OffscreenCanvas(width, height);
  const inside = /** @type {OffscreenCanvasRenderingContext2D} */ (layer.getContext("2d"));
  inside.fillStyle = MASK;
  for (const [start, length] of runsOf(rle)) {
    for (let at = start; at < start + length; ) {
      const y = at % height;
      const rows = Math.min(height - y, start + length - at);
      inside.fillRect(Math.floor(at / height), y, 1, rows);
      at += rows;
    }
  }
  context.drawImage(layer, place.x, place.y, place.width, place.height);
}

/** Where the runs of ones begin and how long they are. @param {string} rle @returns {number[][]} */
export function runsOf(rle) {
  const lengths = rle.split(" ").filter(Boolean).map(Number);
  /** @type {number[][]} */
  const found = [];
  let at = 0;
  lengths.forEach((length, n) => {
    if (n % 2 && length) found.push([at, length]);
    at += length;
  });
  return found;
}
