// @ts-check
/** Draws what a package says of a picture onto that picture. */
import { drawFindings } from "./findings.js";
import { probability } from "./format.js";
import { drawRegion } from "./outline.js";

/** @typedef {{id: string, box: number[]}} Region */
/** @typedef {{width_px: number, height_px: number, regions: Region[]}} Plan */

/**
 * The four corners of a region in the picture's own pixels: turned and scaled about the view's
 * centre, then shifted, as registration found it. Edges lie half a pixel off pixel centres, which
 * is below what a line on a screen shows.
 * @param {number[]} box @param {Record<string, any>} registration @param {Plan} plan
 * @param {{width: number, height: number}} picture
 */
export function corners(box, registration, plan, picture) {
  const [x0, y0, x1, y1] = box;
  const around = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]; // prettier-ignore
  if (!registration || registration.state === "none") {
    const [sx, sy] = [picture.width / plan.width_px, picture.height / plan.height_px];
    return around.map(([x, y]) => [x * sx, y * sy]);
  }
  const turn = ((registration.rotation_deg ?? 0) * Math.PI) / 180;
  const scale = registration.scale ?? 1;
  const [cos, sin] = [scale * Math.cos(turn), scale * Math.sin(turn)];
  const [cx, cy] = [plan.width_px / 2, plan.height_px / 2];
  const [dx, dy] = [registration.dx_px ?? 0, registration.dy_px ?? 0];
  return around.map(([x, y]) => [
    cos * (x - cx) - sin * (y - cy) + cx + dx,
    sin * (x - cx) + cos * (y - cy) + cy + dy,
  ]);
}

/** What stands at one region: the label that holds, the likeliest unsure one, or nothing. */
export function sayRegion(/** @type {any[]} */ answers) {
  const likeliest = [...answers].sort((a, b) => b.probability - a.probability);
  const present = likeliest.find((answer) => answer.decision === "present");
  if (present) return { decision: "present", text: `${present.label} ${probability(present.probability)}` };
  const unsure = likeliest.find((answer) => answer.decision === "unsure");
  if (unsure) return { decision: "unsure", text: `${unsure.label}? ${probability(unsure.probability)}` };
  return { decision: "absent", text: "" };
}

/**
 * Where a picture of another shape lies in a canvas: all of it shown, centred.
 * @param {{width: number, height: number}} picture @param {{width: number, height: number}} canvas
 */
export function fit(picture, canvas) {
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  return { x: (canvas.width - width) / 2, y: (canvas.height - height) / 2, width, height, scale };
}

/** Match a canvas to its place on the screen. @param {HTMLCanvasElement} canvas */
export function prepareCanvas(canvas) {
  const box = canvas.getBoundingClientRect();
  const density = Math.min(devicePixelRatio || 1, 2);
  const [width, height] = [Math.round(box.width * density), Math.round(box.height * density)];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, box.width, box.height);
  return { context, size: { width: box.width, height: box.height } };
}

/**
 * @param {CanvasRenderingContext2D} context @param {ReturnType<typeof fit>} place
 * @param {Record<string, any>} prediction @param {Plan | undefined} plan
 * @param {{width: number, height: number}} picture
 */
export function drawOverlay(context, place, prediction, plan, picture) {
  if (prediction.state !== "ok") return;
  drawFindings(context, place, prediction);
  if (!plan) return;
  for (const region of plan.regions) {
    const answers = prediction.labels.filter((/** @type {any} */ a) => a.region === region.id);
    if (!answers.length) continue;
    const points = corners(region.box, prediction.registration, plan, picture).map(([x, y]) => [
      place.x + x * place.scale,
      place.y + y * place.scale,
    ]);
    drawRegion(context, points, sayRegion(answers), place);
  }
}
