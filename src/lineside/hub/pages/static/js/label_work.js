// @ts-check
/** The picture that is being labelled: its annotation, history, tool and selection. */
import { History } from "./label_history.js";
import { PaintedMask } from "./label_mask.js";

/** @typedef {import("./label_model.js").Annotation} Annotation */
/** @typedef {import("./label_model.js").Shape} Shape */
/** @typedef {{digest: string, name: string, picture: string, width_px: number, height_px: number, revision: number, state: string, annotation: Annotation, by: string, at: string, disputed: string[], contradicting: number[], comments: {text: string, by: string, at: string}[]}} Sample */

const NOTHING = { labels: [], known: [], marked: null, polygons: [], mask: null, count: null };

export class Work {
  /** @param {import("./label_view.js").View} view @param {boolean} writes whether this person saves */
  constructor(view, writes) {
    this.view = view;
    this.writes = writes;
    /** Another picture is on its way: until it is there nothing is changed. */
    this.opening = false;
    this.tool = "select";
    this.label = "";
    this.radius = 8;
    this.history = new History(NOTHING, "todo");
    /** @type {Sample | null} */
    this.sample = null;
    /** @type {PaintedMask | null} */
    this.mask = null;
    /** @type {Shape | null} */
    this.selected = null;
    /** @type {number[][]} */
    this.drawn = [];
    this.closed = false;
    this.burnt = false;
    /** The state that the hub has. */
    this.seen = "todo";
    /** @type {import("./label_view.js").Offer | null} */
    this.suggestion = null;
    /** @type {import("./label_view.js").Offer[]} judgements that contradict each other, those that are shown */
    this.opinions = [];
    /** @type {number[] | null} */
    this.cursor = null;
    /** Called after every change of what is shown. */
    this.onShow = () => {};
    /** Called after every change that is to be saved. */
    this.onChange = () => {};
    /** Waits until all is saved, and says whether it is. */
    this.settled = async () => true;
  }

  get may() {
    return this.writes && !this.opening;
  }

  get now() {
    return this.history.now;
  }

  get size() {
    return this.view.size;
  }

  /** @param {Sample} sample @param {ImageBitmap} picture */
  open(sample, picture) {
    this.view.picture = picture;
    this.view.size = { width: sample.width_px, height: sample.height_px };
    this.view.reset();
    this.take(sample);
  }

  /** Take over what the hub has, and forget the history. @param {Sample} sample */
  take(sample) {
    this.sample = sample;
    this.seen = sample.state;
    this.history = new History(sample.annotation, sample.disputed.length ? "labelled" : sample.state); // a change settles it
    [this.selected, this.cursor, this.suggestion] = [null, null, null];
    this.mask = new PaintedMask(this.size, sample.annotation.mask);
    this.drop();
  }

  /** A change that can be undone and is saved at once. @param {Annotation} next */
  change(next) {
    if (!this.may || !this.sample || next === this.now) return this.onShow();
    const same = next.mask === this.now.mask;
    this.history.set(next);
    this.after(same);
  }

  undo() {
    if (this.drawn.length) return this.drop();
    if (this.may && this.history.undo()) this.after(false);
  }

  redo() {
    if (this.may && this.history.redo()) this.after(false);
  }

  /** @param {boolean} sameMask */
  after(sameMask) {
    if (!sameMask) this.mask = new PaintedMask(this.size, this.now.mask);
    const { kind, n } = this.selected ?? { kind: "mask", n: 0 };
    const count = { mark: this.now.marked?.length ?? 0, polygon: this.now.polygons.length, mask: this.now.mask ? 1 : 0 };
    if (n >= count[kind]) this.selected = null;
    if (this.sample) this.sample.state = this.history.state;
    this.onShow();
    this.onChange();
  }

  /** Forget what is half drawn. */
  drop() {
    this.drawn = [];
    this.closed = false;
    this.onShow();
  }

  /** @param {Shape | null} shape */
  select(shape) {
    this.selected = shape;
    this.onShow();
  }

  /** @param {string} tool */
  use(tool) {
    this.tool = tool;
    this.drawn = [];
    this.closed = false;
    if (tool !== "select") this.selected = null;
    this.onShow();
  }

  /** Keep what was painted as a step that can be undone. */
  keepMask() {
    const polygons = this.burnt ? [] : this.now.polygons;
    this.history.set({ ...this.now, polygons, mask: this.mask?.encode() ?? null });
    this.burnt = false;
    this.after(true);
  }

  /** The eraser works on pixels: polygons become part of the painted mask. */
  burn() {
    for (const polygon of this.now.polygons) this.mask?.fill(polygon);
    this.burnt = true;
  }

  draw() {
    this.view.draw({
      annotation: this.burnt ? { ...this.now, polygons: [] } : this.now, mask: this.mask, selected: this.selected, drawn: this.drawn, closed: this.closed,
      offers: this.suggestion ? [...this.opinions, this.suggestion] : this.opinions, cursor: this.cursor, radius: ["brush", "erase"].includes(this.tool) ? this.radius : 0,
    }); // prettier-ignore
  }
}
