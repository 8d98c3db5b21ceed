// @ts-check
/** The canvas of the label page: picture, mask and shapes, zoomed and panned. */
import { handlesOf } from "./label_handles.js";
import { boxOf, isPoint } from "./label_model.js";
import { RegionLayer } from "./label_regions.js";
import { corners, drawOverlay, prepareCanvas } from "./overlay.js";
import { Zoom } from "./zoom.js";

/** @typedef {import("./label_model.js").Annotation} Annotation */
/** @typedef {import("./label_model.js").Shape} Shape */
/** @typedef {import("./label_mask.js").PaintedMask} PaintedMask */
/** @typedef {{colour: string, dash: number[], fill: string}} Style */
/** @typedef {{annotation: Annotation, mask: PaintedMask | null, style: Style, by: string}} Offer a package's or a person's annotation, which is not that of the picture */
/** @typedef {{annotation: Annotation, mask: PaintedMask | null, selected: Shape | null, drawn: number[][], closed: boolean, offers: Offer[], cursor: number[] | null, radius: number}} Scene */

const LINE = "#ffffff";
const CHOSEN = "#62adff";
const DARK = "#11171e";
const OWN = { colour: LINE, dash: [], fill: "rgba(214,0,147,0.45)" };
/** @type {Style} */
export const OFFERED = { colour: "#f0b13b", dash: [5, 4], fill: "rgba(240,177,59,0.2)" };

export class View extends Zoom {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super(canvas);
    this.canvas = canvas;
    /** @type {ImageBitmap | null} */
    this.picture = null;
    this.regions = new RegionLayer();
  }

  /** @param {Scene} scene */
  draw(scene) {
    const { context } = prepareCanvas(this.canvas);
    const place = this.place();
    context.imageSmoothingEnabled = place.scale < 4;
    if (this.picture) context.drawImage(this.picture, place.x, place.y, place.width, place.height);
    const outlines = this.regions.overlay(scene.annotation, this.picture);
    drawOverlay(context, place, outlines, this.size);
    const { box } = this.regions;
    if (outlines && box) this.outline(context, corners(box, outlines, this.size), { colour: CHOSEN, closed: true });
    for (const { mask } of [scene, ...scene.offers]) {
      if (mask) context.drawImage(mask.layer, place.x, place.y, place.width, place.height);
    }
    for (const [n, { annotation, style, by }] of scene.offers.entries()) this.shapes(context, annotation, null, style, { by, isBelow: n % 2 > 0 });
    this.shapes(context, scene.annotation, scene.selected, OWN);
    if (scene.drawn.length) this.outline(context, scene.drawn, { colour: CHOSEN, closed: scene.closed });
    if (scene.cursor) this.cross(context, scene.cursor, scene.radius);
  }

  /** @param {CanvasRenderingContext2D} context @param {Annotation} one @param {Shape | null} selected @param {Style} style @param {{by: string, isBelow: boolean}} [tags] */
  shapes(context, one, selected, style, { by, isBelow } = { by: "", isBelow: false }) {
    const { colour } = style;
    one.polygons.forEach((polygon, n) => {
      const chosen = selected?.kind === "polygon" && selected.n === n;
      this.outline(context, polygon, { ...style, colour: chosen ? CHOSEN : colour, closed: true, filled: true });
    });
    (one.marked ?? []).forEach((mark, n) => {
      const chosen = selected?.kind === "mark" && selected.n === n;
      const [x0, y0, x1, y1] = boxOf(mark);
      const about = { ...style, colour: chosen ? CHOSEN : colour, closed: true };
      if (isPoint(mark)) this.dot(context, [x0, y0], about.colour);
      else this.outline(context, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], about); // prettier-ignore
      this.tag(context, [x0, isBelow ? y1 : y0], by ? `${mark.label}, ${by}` : mark.label, isBelow);
    });
    for (const handle of handlesOf(one, selected)) this.dot(context, handle, CHOSEN);
  }

  /** @param {CanvasRenderingContext2D} context @param {number[][]} points @param {Partial<Style> & {colour: string, closed: boolean, filled?: boolean}} how */
  outline(context, points, { colour, closed, filled = false, dash = [], fill = OWN.fill }) {
    const { x, y, scale } = this.place();
    context.beginPath();
    points.forEach(([px, py], n) => (n ? context.lineTo(x + px * scale, y + py * scale) : context.moveTo(x + px * scale, y + py * scale)));
    if (closed) context.closePath();
    if (filled) {
      context.fillStyle = fill;
      context.fill("evenodd");
    }
    context.setLineDash(dash);
    [context.lineWidth, context.strokeStyle] = [3.5, "rgba(0,0,0,0.55)"];
    context.stroke();
    [context.lineWidth, context.strokeStyle] = [1.5, colour];
    context.stroke();
    context.setLineDash([]);
  }

  /** @param {CanvasRenderingContext2D} context @param {number[]} point @param {string} colour */
  dot(context, [px, py], colour) {
    const { x, y, scale } = this.place();
    [context.fillStyle, context.strokeStyle, context.lineWidth] = [colour, DARK, 1.5];
    context.beginPath();
    context.arc(x + px * scale, y + py * scale, 5, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }

  /** @param {CanvasRenderingContext2D} context @param {number[]} point @param {string} text @param {boolean} isBelow */
  tag(context, [px, py], text, isBelow) {
    const { x, y, scale } = this.place();
    context.font = '550 12px "Inter", sans-serif';
    const [left, top] = [x + px * scale, Math.max(0, y + py * scale + (isBelow ? 1 : -18))];
    context.fillStyle = DARK;
    context.fillRect(left, top, context.measureText(text).width + 8, 17);
    [context.fillStyle, context.textBaseline] = [LINE, "middle"];
    context.fillText(text, left + 4, top + 9);
  }

  /** Where the keyboard draws, with the brush's size. @param {CanvasRenderingContext2D} context @param {number[]} point @param {number} radius */
  cross(context, [px, py], radius) {
    const { x, y, scale } = this.place();
    const [cx, cy] = [x + px * scale, y + py * scale];
    context.beginPath();
    if (radius) context.arc(cx, cy, radius * scale, 0, 2 * Math.PI);
    context.moveTo(cx - 12, cy);
    context.lineTo(cx + 12, cy);
    context.moveTo(cx, cy - 12);
    context.lineTo(cx, cy + 12);
    [context.lineWidth, context.strokeStyle] = [1.5, CHOSEN];
    context.stroke();
  }
}
