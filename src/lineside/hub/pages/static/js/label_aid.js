// @ts-check
/** Less to draw: the suggestion of the package in use, and the annotation of the picture before. */
import { ask, problemOf } from "./forms.js";
import { PaintedMask } from "./label_mask.js";
import { markOf, summary } from "./label_model.js";
import { OFFERED } from "./label_view.js";

/** @typedef {import("./label_model.js").Annotation} Annotation */
/** @typedef {import("./label_work.js").Work} Work */

/**
 * A package's answer as an annotation: what it is sure of; unsure labels stay not judged.
 * @param {Record<string, any>} prediction @returns {Annotation}
 */
export function annotationOf({ labels, boxes, mask, count, task }) {
  const sure = labels.filter((/** @type {any} */ one) => one.decision !== "unsure");
  const objects = ["detect", "count"].includes(task) || boxes.length > 0;
  return {
    labels: sure.filter((/** @type {any} */ one) => one.decision === "present").map((/** @type {any} */ one) => one.name),
    known: sure.map((/** @type {any} */ one) => one.name),
    marked: objects ? boxes.map((/** @type {any} */ one) => markOf(one.label, [one.x0_px, one.y0_px, one.x1_px, one.y1_px])) : null,
    polygons: [],
    mask: mask ? { rle: mask.rle, width_px: mask.width_px, height_px: mask.height_px } : null,
    count: count && !count.more && count.low === count.high ? count.value : null,
  };
}

/** The annotation with what a suggestion says; what it says nothing of stays. @param {Annotation} one @param {Annotation} offered @returns {Annotation} */
export function accepted(one, offered) {
  const judged = new Set([...(offered.known ?? []), ...offered.labels]);
  return {
    labels: [...one.labels.filter((name) => !judged.has(name)), ...offered.labels],
    known: one.known && [...new Set([...one.known, ...judged])],
    marked: offered.marked ?? one.marked,
    polygons: offered.mask ? [] : one.polygons,
    mask: offered.mask ?? one.mask,
    count: offered.count ?? one.count,
  };
}

export class Aid {
  /** @param {Work} work @param {HTMLElement} root @param {(text: string) => void} say */
  constructor(work, root, say) {
    this.work = work;
    this.say = say;
    /** @type {{annotation: Annotation, width: number, height: number} | null} */
    this.before = null;
    this.text = root.querySelector("[data-suggestion]");
    this.packages = /** @type {HTMLSelectElement | null} */ (root.querySelector("[data-package]"));
    this.accept = /** @type {HTMLButtonElement | null} */ (root.querySelector("[data-do=accept]"));
    this.copy = /** @type {HTMLButtonElement | null} */ (root.querySelector("[data-do=copy]"));
  }

  show() {
    if (this.accept) this.accept.disabled = !this.work.suggestion;
    if (this.copy) this.copy.disabled = !this.before;
    if (this.text && !this.work.suggestion) this.text.textContent = "Not asked yet.";
  }

  /** Ask the package; its answer is drawn in amber until it is accepted. */
  async suggest() {
    const { work } = this;
    const { sample } = work;
    if (!this.packages || !sample || !this.text) return;
    this.text.textContent = "Asking …";
    const bytes = await ask(sample.picture);
    const body = bytes.ok ? await bytes.blob() : null;
    const address = `/api/v1/packages/${encodeURIComponent(this.packages.value)}/predict`;
    const headers = { "content-type": body?.type || "application/octet-stream" };
    const response = body ? await ask(address, { method: "POST", body, headers }) : bytes;
    if (!response.ok) {
      const { title, text } = await problemOf(response);
      this.text.textContent = `${title}. ${text}`;
      return;
    }
    const { prediction } = await response.json();
    if (sample !== work.sample) return;
    if (prediction.state !== "ok") {
      this.text.textContent = `No suggestion: ${prediction.state}. ${prediction.reason}`;
      return;
    }
    const annotation = annotationOf(prediction);
    work.view.regions.register(prediction, work.view.picture);
    const mask = annotation.mask ? new PaintedMask(work.size, annotation.mask) : null;
    work.suggestion = { annotation, mask, style: OFFERED, by: "" };
    this.text.textContent = `${summary(annotation)}. Accept it, then mend it.`;
    work.onShow();
  }

  take() {
    const { work } = this;
    if (!work.suggestion || !work.may) return;
    const next = accepted(work.now, work.suggestion.annotation);
    work.suggestion = null;
    work.change(next);
    this.say("Suggestion accepted.");
  }

  /** Remember what was left behind, for the next picture. */
  leave() {
    if (this.work.sample) this.before = { annotation: this.work.now, ...this.work.size };
  }

  copyBefore() {
    const { before, work } = this;
    if (!before) return this.say("No picture was opened before this one.");
    if (!work.may) return;
    const same = before.width === work.size.width && before.height === work.size.height;
    if (!same) return this.say("The picture before has another size.");
    work.change(before.annotation);
    this.say("Copied from the picture before.");
  }
}
