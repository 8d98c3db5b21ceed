// @ts-check
/** An annotation as data: its shapes, what keys and pointer do to them, and its history. */
import { moved, tidy } from "./regions_model.js";

/** @typedef {{label: string, x0_px: number, y0_px: number, x1_px: number, y1_px: number}} Mark */
/** @typedef {{rle: string, width_px: number, height_px: number}} Mask */
/** @typedef {{labels: string[], known: string[] | null, marked: Mark[] | null, polygons: number[][][], mask: Mask | null, count: number | null}} Annotation */
/** @typedef {{kind: "mark" | "polygon" | "mask", n: number}} Shape */
/** @typedef {{width: number, height: number}} Size */

/** @param {Mark} mark */
export const boxOf = (mark) => [mark.x0_px, mark.y0_px, mark.x1_px, mark.y1_px];

/** @param {Mark} mark */
export const isPoint = (mark) => mark.x0_px === mark.x1_px && mark.y0_px === mark.y1_px;

/** @param {string} label @param {number[]} box @returns {Mark} */
export function markOf(label, [x0_px, y0_px, x1_px, y1_px]) {
  return { label, x0_px, y0_px, x1_px, y1_px };
}

/** Every shape in the order of the list: boxes and points, polygons, the painted mask. @param {Annotation} one @returns {Shape[]} */
export function shapesOf(one) {
  return [
    ...(one.marked ?? []).map((_, n) => /** @type {Shape} */ ({ kind: "mark", n })),
    ...one.polygons.map((_, n) => /** @type {Shape} */ ({ kind: "polygon", n })),
    ...(one.mask ? [/** @type {Shape} */ ({ kind: "mask", n: 0 })] : []),
  ];
}

/** Whether nothing is said of the picture. @param {Annotation} one */
export function isEmpty(one) {
  return !one.labels.length && !one.known?.length && !one.marked && !one.polygons.length && !one.mask && one.count === null;
}

/** @param {Annotation} one @param {Mark} mark @returns {Annotation} */
export function withMark(one, mark) {
  return { ...one, marked: [...(one.marked ?? []), mark] };
}

/** @param {Annotation} one @param {number} n @param {Partial<Mark>} changed @returns {Annotation} */
export function changedMark(one, n, changed) {
  return { ...one, marked: (one.marked ?? []).map((mark, place) => (place === n ? { ...mark, ...changed } : mark)) };
}

/** The annotation without a shape; without the last box nobody marked any. @param {Annotation} one @param {Shape} shape @returns {Annotation} */
export function without(one, { kind, n }) {
  if (kind === "mask") return { ...one, mask: null };
  if (kind === "polygon") return { ...one, polygons: one.polygons.filter((_, place) => place !== n) };
  const marked = (one.marked ?? []).filter((_, place) => place !== n);
  return { ...one, marked: marked.length ? marked : null };
}

/** A shape shifted; it never leaves the picture. @param {Annotation} one @param {Shape} shape @param {number[]} by @param {Size} size @returns {Annotation} */
export function shifted(one, { kind, n }, [dx, dy], size) {
  if (kind === "mark") {
    const mark = (one.marked ?? [])[n];
    return changedMark(one, n, markOf(mark.label, moved(boxOf(mark), dx, dy, size)));
  }
  if (kind === "mask") return one;
  const polygon = one.polygons[n];
  const [xs, ys] = [polygon.map(([x]) => x), polygon.map(([, y]) => y)];
  const right = Math.max(-Math.min(...xs), Math.min(dx, size.width - Math.max(...xs)));
  const down = Math.max(-Math.min(...ys), Math.min(dy, size.height - Math.max(...ys)));
  const polygons = one.polygons.map((each, place) => (place === n ? each.map(([x, y]) => [x + right, y + down]) : each));
  return { ...one, polygons };
}

/** The box between two corners, whole pixels inside the picture. @param {number[]} from @param {number[]} to @param {Size} size */
export const boxBetween = (from, to, size) => tidy([...from, ...to], size);

/** Kept inside the picture. @param {number[]} point @param {Size} size */
export function inside([x, y], size) {
  return [Math.max(0, Math.min(size.width, x)), Math.max(0, Math.min(size.height, y))];
}

/** Whether a point lies in a polygon (even-odd). @param {number[][]} polygon @param {number[]} point */
export function holds(polygon, [x, y]) {
  let odd = false;
  polygon.forEach(([ax, ay], n) => {
    const [bx, by] = polygon[(n + 1) % polygon.length];
    if (ay <= y !== by <= y && x < ax + ((y - ay) * (bx - ax)) / (by - ay)) odd = !odd;
  });
  return odd;
}

/** The smallest shape at a point; points within `near`. @param {Annotation} one @param {number[]} point @param {number} near @returns {Shape | null} */
export function shapeAt(one, [x, y], near) {
  /** @type {{shape: Shape, area: number}[]} */
  const found = [];
  (one.marked ?? []).forEach((mark, n) => {
    const edge = isPoint(mark) ? near : 0;
    const [x0, y0, x1, y1] = boxOf(mark);
    const hit = x >= x0 - edge && x <= x1 + edge && y >= y0 - edge && y <= y1 + edge;
    if (hit) found.push({ shape: { kind: "mark", n }, area: (x1 - x0) * (y1 - y0) });
  });
  one.polygons.forEach((polygon, n) => {
    if (holds(polygon, [x, y])) found.push({ shape: { kind: "polygon", n }, area: Number.MAX_VALUE });
  });
  return found.sort((a, b) => a.area - b.area)[0]?.shape ?? null;
}

/** An annotation in words. @param {Annotation} one */
export function summary(one) {
  const shapes = shapesOf(one).length;
  const labels = one.labels.join(", ") || "no label";
  const count = one.count === null ? "" : `, count ${one.count}`;
  return `${labels}, ${shapes} ${shapes === 1 ? "shape" : "shapes"}${count}`;
}
