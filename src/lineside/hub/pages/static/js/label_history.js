// @ts-check
/** The changes of an annotation, and the state of its picture. */
import { isEmpty } from "./label_model.js";

/** @typedef {import("./label_model.js").Annotation} Annotation */

/** What was, what is, and what was undone; and the state of the picture, which follows it until a person chooses one. */
export class History {
  /** @param {Annotation} now @param {string} state of the picture */
  constructor(now, state) {
    this.now = now;
    this.opened = state; // before the first change, or as chosen since
    this.chosen = false;
    /** @type {Annotation[]} */
    this.past = [];
    /** @type {Annotation[]} */
    this.future = [];
  }

  /** @param {Annotation} next */
  set(next) {
    this.past.push(this.now);
    this.now = next;
    this.future = [];
  }

  /** @returns {boolean} whether there was anything to undo */
  undo() {
    const before = this.past.pop();
    if (!before) return false;
    this.future.push(this.now);
    this.now = before;
    return true;
  }

  /** @returns {boolean} whether there was anything to do again */
  redo() {
    const next = this.future.pop();
    if (!next) return false;
    this.past.push(this.now);
    this.now = next;
    return true;
  }

  /** The state of the picture: to do again where nothing is said of it any more. */
  get state() {
    const follows = !this.chosen && ["todo", "labelled"].includes(this.opened) && this.past.length > 0;
    return !follows ? this.opened : isEmpty(this.now) ? "todo" : "labelled";
  }

  /** A person chose the state; after "To do" it follows the changes again. @param {string} state */
  choose(state) {
    [this.opened, this.chosen] = [state, state !== "todo"];
    return state;
  }
}
