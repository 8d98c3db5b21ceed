// @ts-check
/** Every shape as a row that the keyboard reaches: select, move, relabel, delete. */
import { become, make } from "./dom.js";
import { stepOf } from "./label_cursor.js";
import { stepped } from "./label_handles.js";
import { boxOf, changedMark, isPoint, shapesOf, without } from "./label_model.js";

/** @typedef {import("./label_work.js").Work} Work */
/** @typedef {import("./label_model.js").Shape} Shape */

/** A shape in words. @param {Work} work @param {Shape} shape */
export function wordsOf(work, { kind, n }) {
  if (kind === "mask") return `Painted, ${work.mask?.area ?? 0} px`;
  if (kind === "polygon") return `Polygon, ${work.now.polygons[n].length} corners`;
  const mark = (work.now.marked ?? [])[n];
  const [x0, y0, x1, y1] = boxOf(mark).map(Math.round);
  return isPoint(mark) ? `Point at ${x0}, ${y0}` : `Box ${x0}, ${y0} to ${x1}, ${y1}`;
}

export class ShapeList {
  /** @param {Work} work @param {HTMLElement} root @param {() => string[]} names */
  constructor(work, root, names) {
    this.work = work;
    this.names = names;
    this.list = /** @type {HTMLElement} */ (root.querySelector("[data-shapes]"));
    this.none = /** @type {HTMLElement} */ (root.querySelector("[data-no-shapes]"));
    this.list.addEventListener("click", (event) => this.click(event));
    this.list.addEventListener("focusin", (event) => this.focus(event));
    this.list.addEventListener("change", (event) => this.relabel(event));
    this.list.addEventListener("keydown", (event) => this.key(event));
  }

  /** The shape of the row in which something happened. @param {Event} event */
  shape(event) {
    const row = /** @type {HTMLElement} */ (event.target).closest("li");
    return row ? shapesOf(this.work.now)[Number(row.dataset.place)] : null;
  }

  show() {
    const { work } = this;
    const rows = shapesOf(work.now).map((shape, place) => this.row(shape, place));
    const fresh = /** @type {HTMLElement} */ (this.list.cloneNode(false));
    fresh.append(...rows);
    become(this.list, fresh);
    this.none.hidden = rows.length > 0;
    for (const select of this.list.querySelectorAll("select")) select.value = select.dataset.now ?? "";
  }

  /** @param {Shape} shape @param {number} place */
  row(shape, place) {
    const { work } = this;
    const chosen = work.selected?.kind === shape.kind && work.selected.n === shape.n;
    const words = wordsOf(work, shape);
    const button = make("button", { type: "button", class: "small", "aria-pressed": String(chosen) }, words);
    const row = make("li", { "data-place": String(place) }, button);
    if (!work.writes) return row;
    if (shape.kind === "mark") {
      const label = (work.now.marked ?? [])[shape.n].label;
      const names = this.names().includes(label) ? this.names() : [label, ...this.names()];
      const select = make("select", { "aria-label": `Label of ${words}`, "data-now": label });
      for (const name of names) select.append(make("option", { value: name }, name));
      row.append(select);
    }
    row.append(make("button", { type: "button", class: "small", "data-delete": "", "aria-label": `Delete ${words}` }, "Delete"));
    return row;
  }

  /** @param {Event} event */
  click(event) {
    const shape = this.shape(event);
    if (!shape) return;
    if (/** @type {HTMLElement} */ (event.target).matches("[data-delete]")) this.remove(shape);
    else this.work.select(shape);
  }

  /** @param {Event} event */
  focus(event) {
    const shape = this.shape(event);
    if (shape && /** @type {HTMLElement} */ (event.target).matches("[aria-pressed]")) this.work.select(shape);
  }

  /** @param {Shape} shape */
  remove(shape) {
    const place = shapesOf(this.work.now).findIndex((one) => one.kind === shape.kind && one.n === shape.n);
    this.work.selected = null;
    this.work.change(without(this.work.now, shape));
    const rows = [...this.list.querySelectorAll("[aria-pressed]")];
    /** @type {HTMLElement | undefined} */ (rows[Math.min(place, rows.length - 1)])?.focus();
  }

  /** @param {Event} event */
  relabel(event) {
    const shape = this.shape(event);
    const { value } = /** @type {HTMLSelectElement} */ (event.target);
    if (shape?.kind === "mark") this.work.change(changedMark(this.work.now, shape.n, { label: value }));
  }

  /** Arrows move, with Alt the lower right corner; Delete takes it away. @param {KeyboardEvent} event */
  key(event) {
    const shape = this.shape(event);
    if (!shape || !this.work.may || !/** @type {HTMLElement} */ (event.target).matches("[aria-pressed]")) return;
    const by = stepOf(event);
    if (by) this.work.change(stepped(this.work.now, shape, by, this.work.size, event.altKey));
    else if (event.key === "Delete" || event.key === "Backspace") this.remove(shape);
    else return;
    event.preventDefault();
  }
}
