// @ts-check
/** Corners of shapes: which one is grasped, and what a drag or a key does to it. */
import { boxBetween, boxOf, changedMark, inside, isPoint, markOf, shifted } from "./label_model.js";

/** @typedef {import("./label_model.js").Annotation} Annotation */
/** @typedef {import("./label_model.js").Shape} Shape */
/** @typedef {import("./label_model.js").Size} Size */

/** The corners of a shape that can be dragged: of a box clockwise from the upper left. @param {Annotation} one @param {Shape | null} shape @returns {number[][]} */
export function handlesOf(one, shape) {
  if (shape?.kind === "polygon") return one.polygons[shape.n];
  const mark = shape?.kind === "mark" ? (one.marked ?? [])[shape.n] : null;
  if (!mark || isPoint(mark)) return [];
  const [x0, y0, x1, y1] = boxOf(mark);
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]; // prettier-ignore
}

/** The nearest corner of a shape within `near` of a point; -1 for none. @param {Annotation} one @param {Shape | null} shape @param {number[]} point @param {number} near */
export function handleAt(one, shape, [x, y], near) {
  const far = handlesOf(one, shape).map(([hx, hy]) => Math.hypot(hx - x, hy - y));
  const least = Math.min(...far);
  return least < near ? far.indexOf(least) : -1;
}

/** A shape with one corner moved, inside the picture; the opposite corner of a box stays. @param {Annotation} one @param {Shape} shape @param {number} handle @param {number[]} by @param {Size} size @returns {Annotation} */
export function reshaped(one, shape, handle, [dx, dy], size) {
  const corners = handlesOf(one, shape);
  const to = inside([corners[handle][0] + dx, corners[handle][1] + dy], size);
  if (shape.kind === "mark") {
    const box = boxBetween(corners[(handle + 2) % 4], to, size);
    return changedMark(one, shape.n, markOf((one.marked ?? [])[shape.n].label, box));
  }
  const polygon = corners.map((corner, place) => (place === handle ? to : corner));
  return { ...one, polygons: one.polygons.map((each, place) => (place === shape.n ? polygon : each)) };
}

/** What an arrow key does to a shape: with `far` the lower right corner of a box moves. @param {Annotation} one @param {Shape} shape @param {number[]} by @param {Size} size @param {boolean} far */
export function stepped(one, shape, by, size, far) {
  const corner = far && shape.kind === "mark" && handlesOf(one, shape).length;
  return corner ? reshaped(one, shape, 2, by, size) : shifted(one, shape, by, size);
}
