// @ts-check
/** An outline on a picture with what is said of it. */

/** @typedef {{x: number, y: number, width: number, height: number, scale: number}} Place where the picture lies on the canvas */

const PASS = "rgba(255,255,255,0.7)";
const UNSURE = "#f0b13b";
const TAG = "#11171e";

/**
 * @param {CanvasRenderingContext2D} context @param {number[][]} points
 * @param {{decision: string, text: string}} said @param {Place} place
 */
export function drawRegion(context, points, said, place) {
  const unsure = said.decision === "unsure";
  context.lineWidth = unsure ? 2 : 1.5;
  context.strokeStyle = unsure ? UNSURE : PASS;
  context.setLineDash(said.decision === "absent" ? [4, 4] : []);
  context.beginPath();
  points.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.closePath();
  context.stroke();
  context.setLineDash([]);
  if (said.text) drawTag(context, points, said, place);
}

/**
 * The tag stands on the region's upper left corner and never leaves the picture.
 * @param {CanvasRenderingContext2D} context @param {number[][]} points
 * @param {{decision: string, text: string}} said @param {Place} place
 */
function drawTag(context, points, said, place) {
  const unsure = said.decision === "unsure";
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16; // the wall's is larger
  const high = 17 * rem;
  context.font = `550 ${12 * rem}px "Inter", sans-serif`;
  const width = context.measureText(said.text).width + 8;
  const left = Math.min(...points.map(([x]) => x));
  const top = Math.min(...points.map(([, y]) => y));
  const x = Math.max(place.x, Math.min(left, place.x + place.width - width));
  const y = Math.max(place.y, Math.min(top - high, place.y + place.height - high));
  context.fillStyle = unsure ? UNSURE : TAG;
  context.fillRect(x, y, width, high);
  context.fillStyle = unsure ? "#1d1300" : "#ffffff";
  context.textBaseline = "middle";
  context.fillText(said.text, x + 4, y + high / 2 + 0.5);
}
