// @ts-check
/** Regions on a picture, as data: what drawing and keys do to them, and the TOML they become. */

/** @typedef {{id: string, label: string, classes: string[], box: number[]}} Region */
/** @typedef {{width: number, height: number}} Size */

const LEAST = 4;

/** @param {number} value @param {number} low @param {number} high */
function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}

/** Whole pixels, inside the picture, corners in order, never smaller than 4 px. @param {number[]} box @param {Size} size */
export function tidy(box, size) {
  const [ax, ay, bx, by] = box.map(Math.round);
  const x0 = clamp(Math.min(ax, bx), 0, size.width - LEAST);
  const y0 = clamp(Math.min(ay, by), 0, size.height - LEAST);
  const x1 = clamp(Math.max(ax, bx), x0 + LEAST, size.width);
  const y1 = clamp(Math.max(ay, by), y0 + LEAST, size.height);
  return [x0, y0, x1, y1];
}

/** The box shifted, kept whole inside the picture. @param {number[]} box @param {number} dx @param {number} dy @param {Size} size */
export function moved([x0, y0, x1, y1], dx, dy, size) {
  const right = clamp(Math.round(dx), -x0, size.width - x1);
  const down = clamp(Math.round(dy), -y0, size.height - y1);
  return [x0 + right, y0 + down, x1 + right, y1 + down];
}

/** The lower right corner moved. @param {number[]} box @param {number} dx @param {number} dy @param {Size} size */
export function resized([x0, y0, x1, y1], dx, dy, size) {
  const right = clamp(Math.round(x1 + dx), x0 + LEAST, size.width);
  const low = clamp(Math.round(y1 + dy), y0 + LEAST, size.height);
  return [x0, y0, right, low];
}

/** A name that is free: `R1`, `R2` … @param {Region[]} regions */
export function freeId(regions) {
  const used = new Set(regions.map((region) => region.id));
  let n = regions.length + 1;
  while (used.has(`R${n}`)) n += 1;
  return `R${n}`;
}

/** A TOML basic string (toml.io, v1.0.0). @param {string} text */
export function quote(text) {
  const escapes = { "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\" };
  const escaped = text.replace(/[\u0000-\u001f\u007f"\\]/g, (char) => {
    const code = char.charCodeAt(0).toString(16).padStart(4, "0");
    return escapes[/** @type {keyof typeof escapes} */ (char)] ?? `\\u${code}`;
  });
  return `"${escaped}"`;
}

/**
 * Lines for the plant file, to stand below their `[[inspection]]`.
 * @param {Region[]} regions @param {Size} size
 */
export function toml(regions, size) {
  const view = `[inspection.view]\nwidth_px = ${size.width}\nheight_px = ${size.height}\n`;
  const tables = regions.map(({ id, label, classes, box: [x0, y0, x1, y1] }) => {
    const answers = classes.length ? `classes = [${classes.map(quote).join(", ")}]` : `label = ${quote(label)}`;
    const corners = `x0_px = ${x0}, y0_px = ${y0}, x1_px = ${x1}, y1_px = ${y1}`;
    return `[[inspection.region]]\nid = ${quote(id)}\n${answers}\nbox_px = { ${corners} }\n`;
  });
  return [view, ...tables].join("\n");
}

/** What a person typed as classes. @param {string} text */
export function classesOf(text) {
  return [...new Set(text.split(",").map((part) => part.trim()).filter(Boolean))];
}

/** The regions as keys of an inspection in the plant file. @param {Region[]} regions @param {{width: number, height: number}} size */
export function plantValues(regions, size) {
  const edges = ["x0_px", "y0_px", "x1_px", "y1_px"];
  const region = regions.map(({ id, label, classes, box }) => ({
    id,
    box_px: Object.fromEntries(edges.map((name, n) => [name, box[n]])),
    ...(classes.length ? { classes } : { label }),
  }));
  return { region: region.length ? region : null, "view.width_px": size.width, "view.height_px": size.height };
}
