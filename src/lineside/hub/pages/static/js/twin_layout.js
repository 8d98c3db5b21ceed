// @ts-check
/** Places for labels: near what they name, inside the picture, and never one over another. */

/** @typedef {{x: number, y: number, width: number, height: number}} Box */
/** @typedef {{key: string, x: number, y: number, width: number, height: number, above: boolean}} Label with its anchor */
/** @typedef {{key: string, x: number, y: number, leader: number[] | null}} Placed */

const EDGE = 2;
const GAP = 1;
const STEP = 8;
const NEAR = 12; // a label that lies farther from its anchor gets a line to it

/** @param {Box} one @param {Box} other */
export function overlap(one, other) {
  return (
    one.x < other.x + other.width + GAP &&
    other.x < one.x + one.width + GAP &&
    one.y < other.y + other.height + GAP &&
    other.y < one.y + one.height + GAP
  );
}

/** Shifts on a grid that reaches everywhere, the nearest first; upwards and downwards before sideways. @param {{width: number, height: number}} size */
function shifts({ width, height }) {
  const found = [];
  const [right, down] = [width, height].map((length) => STEP * Math.ceil(length / STEP));
  for (let dx = -right; dx <= right; dx += STEP) {
    for (let dy = -down; dy <= down; dy += STEP) found.push([dx, dy, Math.hypot(1.3 * dx, dy)]);
  }
  return found.sort((one, other) => one[2] - other[2]);
}

/** @type {{name: string, shifts: number[][]}} of the size that was asked for last, because a turn draws often */
let last = { name: "", shifts: [] };

/** @param {{width: number, height: number}} size */
function shiftsOf(size) {
  const name = `${size.width} ${size.height}`;
  if (last.name !== name) last = { name, shifts: shifts(size) };
  return last.shifts;
}

/**
 * Each label above or below its anchor, or as near as it finds room. Earlier labels choose first.
 * One for which there is no room at all is left out.
 * @param {Label[]} labels @param {{width: number, height: number}} size of the picture
 * @param {Box[]} obstacles that no label may cover
 * @returns {Placed[]}
 */
export function placeLabels(labels, size, obstacles = []) {
  const boxes = [...obstacles];
  const tried = shiftsOf(size);
  /** @type {Placed[]} */
  const placed = [];
  for (const { key, x, y, width, height, above } of labels) {
    const inside = (/** @type {number} */ at, /** @type {number} */ length, /** @type {number} */ whole) =>
      Math.round(Math.max(EDGE, Math.min(at, whole - length - EDGE)));
    if (width + 2 * EDGE > size.width || height + 2 * EDGE > size.height) continue;
    for (const [dx, dy] of tried) {
      const box = {
        x: inside(x - width / 2 + dx, width, size.width),
        y: inside((above ? y - height : y + 1) + dy, height, size.height),
        width,
        height,
      };
      if (boxes.some((other) => overlap(box, other))) continue;
      boxes.push(box);
      placed.push({ key, x: box.x, y: box.y, leader: leader({ x, y }, box) });
      break;
    }
  }
  return placed;
}

/** The line from an anchor to the nearest edge of its label; null where it is near enough. @param {{x: number, y: number}} at @param {Box} box */
function leader(at, box) {
  const x = Math.max(box.x, Math.min(at.x, box.x + box.width));
  const y = Math.max(box.y, Math.min(at.y, box.y + box.height));
  return Math.hypot(x - at.x, y - at.y) > NEAR ? [at.x, at.y, x, y] : null;
}

/**
 * The label that an arrow key leads to: the nearest in its direction; the same where there is none.
 * @param {string} key @param {string} from @param {Placed[]} placed
 */
export function nextLabel(key, from, placed) {
  const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  const start = placed.find((one) => one.key === from);
  if (!direction || !start) return from;
  let best = from;
  let least = Infinity;
  for (const one of placed) {
    const along = (one.x - start.x) * direction[0] + (one.y - start.y) * direction[1];
    const aside = Math.abs((one.x - start.x) * direction[1]) + Math.abs((one.y - start.y) * direction[0]);
    if (along <= 0 || along + 2 * aside >= least) continue;
    least = along + 2 * aside;
    best = one.key;
  }
  return best;
}
