// @ts-check
/** Drawing with the keyboard: a cross that arrows move, and what Enter does where it stands. */
import { stepped } from "./label_handles.js";
import { boxBetween, inside } from "./label_model.js";

/** @typedef {import("./label_work.js").Work} Work */

export const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** How far one press goes: a pixel, ten with Shift. @param {KeyboardEvent} event */
export function stepOf(event) {
  const arrow = ARROWS[/** @type {keyof typeof ARROWS} */ (event.key)];
  return arrow ? arrow.map((one) => one * (event.shiftKey ? 10 : 1)) : null;
}

export class Cursor {
  /** @param {Work} work @param {import("./label_tools.js").Tools} tools @param {HTMLCanvasElement} canvas */
  constructor(work, tools, canvas) {
    this.work = work;
    this.tools = tools;
    /** @type {number[] | null} the first corner of a box */
    this.anchor = null;
    this.paints = false;
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.lift());
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey) return;
    const by = stepOf(event);
    if (by && event.altKey && this.work.tool !== "select") this.work.view.panBy(-by[0] * 20, -by[1] * 20);
    else if (by) this.step(by, event.altKey);
    else if (event.key === "Enter" || event.key === " ") this.enter();
    else if (event.key === "Escape") this.stop();
    else return;
    event.preventDefault();
    this.work.draw();
  }

  /** Where the keyboard draws: the middle at first. */
  get at() {
    const { width, height } = this.work.size;
    return this.work.cursor ?? [Math.round(width / 2), Math.round(height / 2)];
  }

  /** @param {number[]} by @param {boolean} far */
  step(by, far) {
    const { work } = this;
    if (work.tool === "select") {
      if (work.selected) work.change(stepped(work.now, work.selected, by, work.size, far));
      return;
    }
    const from = this.at;
    work.cursor = inside([from[0] + by[0], from[1] + by[1]], work.size);
    if (this.paints) work.mask?.stroke(from, work.cursor, work.radius, work.tool === "brush" ? 1 : 0);
    if (this.anchor) this.rubber(this.anchor, work.cursor);
  }

  /** @param {number[]} from @param {number[]} to */
  rubber(from, to) {
    [this.work.drawn, this.work.closed] = [[from, [to[0], from[1]], to, [from[0], to[1]]], true];
  }

  /** Set a point or corner, begin or end a box or a stroke. */
  enter() {
    const { work, tools } = this;
    if (!work.may || work.tool === "select") return;
    const at = this.at;
    work.cursor = at;
    if (work.tool === "point") tools.add([...at, ...at]);
    else if (work.tool === "polygon") tools.corner(at);
    else if (work.tool === "box") this.box(at);
    else if (this.paints) this.lift();
    else this.begin(at);
  }

  /** @param {number[]} at */
  box(at) {
    if (!this.anchor) {
      this.anchor = at;
      this.tools.say("First corner set: move with the arrow keys, Enter sets the other one.");
      return this.rubber(at, at);
    }
    const from = this.anchor;
    this.anchor = null;
    this.work.drop();
    this.tools.add(boxBetween(from, at, this.work.size));
  }

  /** @param {number[]} at */
  begin(at) {
    if (this.work.tool === "erase") this.work.burn();
    this.paints = true;
    this.work.mask?.stroke(at, at, this.work.radius, this.work.tool === "brush" ? 1 : 0);
    this.tools.say("Drawing: move with the arrow keys, Enter ends.");
  }

  /** End a stroke. */
  lift() {
    if (!this.paints) return;
    this.paints = false;
    this.work.keepMask();
  }

  /** End a stroke and forget the corner that was set, before another picture comes. */
  rest() {
    this.lift();
    this.anchor = null;
    this.work.drop();
  }

  /** Give up what is half drawn. */
  stop() {
    this.lift();
    this.anchor = null;
    this.work.cursor = null;
    this.work.select(null);
    this.work.drop();
  }
}
