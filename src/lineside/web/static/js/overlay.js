// @ts-check
/** Draws an answer onto its picture; the server says what is drawn (`overlay_of`), texts included. */

/** @typedef {{x: number, y: number, width: number, height: number, scale: number}} Place where the picture lies on the canvas */
/** @typedef {{width: number, height: number}} Size */
/** @typedef {{box: number[], decision: string, text: string}} Shape */
/** @typedef {{view: number[], registration: Record<string, any>, regions: Shape[], objects: Shape[], mask: any}} Overlay */

const PASS = "rgba(255,255,255,0.7)";
const UNSURE = "#f0b13b";
const TAG = "#11171e";
const MASK = "rgba(214,0,147,0.55)";
const TAGGED_PX = 48; // narrower objects have no tag: where there are many, tags would hide them

/**
 * @param {CanvasRenderingContext2D} context @param {Place} place
 * @param {Overlay | null} overlay @param {Size} picture
 */
export function drawOverlay(context, place, overlay, picture) {
  if (!overlay) return;
  if (overlay.mask) drawMask(context, place, overlay.mask);
  const onCanvas = (/** @type {number[][]} */ points) =>
    points.map(([x, y]) => [place.x + x * place.scale, place.y + y * place.scale]);
  for (const { box, decision, text } of overlay.objects) {
    const wide = (box[2] - box[0]) * place.scale >= TAGGED_PX;
    drawRegion(context, onCanvas(around(box)), { decision, text: wide ? text : "" }, place);
  }
  for (const region of overlay.regions) {
    drawRegion(context, onCanvas(corners(region.box, overlay, picture)), region, place);
  }
}

/** The four corners of a box. @param {number[]} box */
function around([x0, y0, x1, y1]) {
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]; // prettier-ignore
}

/**
 * The four corners of a region in the picture's own pixels: turned and scaled about the view's
 * centre, then shifted, as registration found it. Edges lie half a pixel off pixel centres, which
 * is below what a line on a screen shows.
 * @param {number[]} box @param {{view: number[], registration: Record<string, any>}} overlay
 * @param {Size} picture
 */
export function corners(box, { view: [width, height], registration }, picture) {
  if (registration.state === "none") {
    const [sx, sy] = [picture.width / width, picture.height / height];
    return around(box).map(([x, y]) => [x * sx, y * sy]);
  }
  const turn = ((registration.rotation_deg ?? 0) * Math.PI) / 180;
  const scale = registration.scale ?? 1;
  const [cos, sin] = [scale * Math.cos(turn), scale * Math.sin(turn)];
  const [cx, cy] = [width / 2, height / 2];
  const [dx, dy] = [registration.dx_px ?? 0, registration.dy_px ?? 0];
  return around(box).map(([x, y]) => [
    cos * (x - cx) - sin * (y - cy) + cx + dx,
    sin * (x - cx) + cos * (y - cy) + cy + dy,
  ]);
}

/** @param {CanvasRenderingContext2D} context @param {number[][]} points @param {{decision: string, text: string}} said @param {Place} place */
function drawRegion(context, points, said, place) {
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

/** The tag stands on the upper left corner and never leaves the picture. @param {CanvasRenderingContext2D} context @param {number[][]} points @param {{decision: string, text: string}} said @param {Place} place */
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
