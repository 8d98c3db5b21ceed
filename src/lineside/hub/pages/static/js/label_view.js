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
/** @typedef {{annotation: Annotation, mask: PaintedMask | null, selected: Shape | null, drawn: number[][], closed: boolean, suggestion: Annotation | null, suggested: PaintedMask | null, cursor: number[] | null, radius: number}} Scene */

const LINE = "#ffffff";
const CHOSEN = "#62adff";
const OFFERED = "#f0b13b";
const DARK = "#11171e";

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
    if (scene.mask) context.drawImage(scene.mask.layer, place.x, place.y, place.width, place.height);
    if (scene.suggestion) this.shapes(context, scene.suggestion, null, OFFERED);
    if (scene.suggested) context.drawImage(scene.suggested.layer, place.x, place.y, place.width, place.height);
    this.shapes(context, scene.annotation, scene.selected, LINE);
    if (scene.drawn.length) this.outline(context, scene.drawn, { colour: CHOSEN, closed: scene.closed });
    if (scene.cursor) this.cross(context, scene.cursor, scene.radius);
  }

  /** @param {CanvasRenderingContext2D} context @param {Annotation} one @param {Shape | null} selected @param {string} colour */
  shapes(context, one, selected, colour) {
    const dashed = colour === OFFERED;
    one.polygons.forEach((polygon, n) => {
      const chosen = selected?.kind === "polygon" && selected.n === n;
      this.outline(context, polygon, { colour: chosen ? CHOSEN : colour, closed: true, filled: true, dashed });
    });
    (one.marked ?? []).forEach((mark, n) => {
      const chosen = selected?.kind === "mark" && selected.n === n;
      const [x0, y0, x1, y1] = boxOf(mark);
      const about = { colour: chosen ? CHOSEN : colour, closed: true, dashed };
      if (isPoint(mark)) this.dot(context, [x0, y0], about.colour);
      else this.outline(context, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], about); // prettier-ignore
      this.tag(context, [x0, y0], mark.label);
    });
    for (const handle of handlesOf(one, selected)) this.dot(context, handle, CHOSEN);
  }

  /** @param {CanvasRenderingContext2D} context @param {number[][]} points @param {{colour: string, closed: boolean, filled?: boolean, dashed?: boolean}} how */
  outline(context, points, { colour, closed, filled = false, dashed = false }) {
    const { x, y, scale } = this.place();
    context.beginPath();
    points.forEach(([px, py], n) => (n ? context.lineTo(x + px * scale, y + py * scale) : context.moveTo(x + px * scale, y + py * scale)));
    if (closed) context.closePath();
    if (filled) {
      context.fillStyle = dashed ? "rgba(240,177,59,0.2)" : "rgba(214,0,147,0.45)";
      context.fill("evenodd");
    }
    context.setLineDash(dashed ? [5, 4] : []);
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

  /** @param {CanvasRenderingContext2D} context @param {number[]} point @param {string} text */
  tag(context, [px, py], text) {
    const { x, y, scale } = this.place();
    context.font = '550 12px "Inter", sans-serif';
    const [left, top] = [x + px * scale, Math.max(0, y + py * scale - 18)];
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
