// @ts-check
/** Every change is saved at once, over the revision that was seen; what came second is chosen. */
import { make, when } from "./dom.js";
import { ask, problemOf } from "./forms.js";
import { PaintedMask } from "./label_mask.js";
import { summary } from "./label_model.js";
import { refreshHead } from "./label_strip.js";
import { View } from "./label_view.js";

/** @typedef {import("./label_work.js").Work} Work */
/** @typedef {import("./label_work.js").Sample} Sample */
/** @typedef {import("./label_model.js").Annotation} Annotation */
/** @typedef {{sample: Sample, annotation: Annotation, state: string}} Change */

/** Send JSON. @param {string} address @param {unknown} body */
export function post(address, body) {
  return ask(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export class Sync {
  /** @param {Work} work @param {string} address @param {HTMLElement} root */
  constructor(work, address, root) {
    this.work = work;
    this.address = address;
    this.status = /** @type {HTMLElement} */ (root.querySelector("[data-saved]"));
    this.dialog = /** @type {HTMLDialogElement} */ (document.querySelector("[data-conflict]"));
    /** @type {Change | null} */
    this.waiting = null;
    /** @type {Promise<void> | null} */
    this.sending = null;
    this.dialog.addEventListener("cancel", (event) => event.preventDefault());
    addEventListener("beforeunload", (event) => this.pending && event.preventDefault());
  }

  get pending() {
    return this.waiting !== null || this.sending !== null;
  }

  /** Save what stands now of the picture that is open, after what is on its way. */
  save() {
    const { sample, now } = this.work;
    if (sample) this.waiting = { sample, annotation: now, state: sample.state };
    this.sending ??= this.send().finally(() => (this.sending = null));
    return this.sending;
  }

  /** When all is saved: whether it is. */
  async settled() {
    if (this.waiting && !this.sending) await this.save();
    else await this.sending;
    return !this.waiting;
  }

  async send() {
    for (let change = this.waiting; change; change = this.waiting) {
      const { sample, annotation, state } = change;
      this.waiting = null;
      this.status.textContent = "Saving …";
      const response = await post(`${this.address}/${sample.digest}`, { revision: sample.revision, annotation, state });
      if (response.status === 409) await this.settle(change, (await response.json()).stored);
      else if (!response.ok) return this.fail(change, await problemOf(response));
      else this.take(sample, await response.json());
    }
  }

  /** @param {Sample} sample @param {Sample} stored */
  take(sample, stored) {
    if (stored.disputed.length && !this.waiting) sample.state = stored.state; // until the dispute is settled
    this.learn(sample, stored);
    this.status.replaceChildren("Saved ", when(stored.at, "clock"));
  }

  /** What the hub has of a picture, its judgements too, is shown; what is not saved yet stays. @param {Sample} sample @param {Sample} stored */
  learn(sample, { revision, annotation, by, at, disputed, contradicting, comments, state }) {
    Object.assign(sample, { revision, annotation, by, at, disputed, contradicting, comments });
    if (this.work.seen !== state) void refreshHead();
    this.work.seen = state;
    this.work.onShow();
  }

  /** Nothing is lost: it is sent again with the next change, or by the button. @param {Change} change @param {{title: string, text: string}} problem */
  fail(change, problem) {
    this.waiting ??= change;
    const again = make("button", { type: "button", class: "small" }, "Save again");
    again.addEventListener("click", () => void this.save());
    this.status.replaceChildren(`Not saved: ${problem.title}. ${problem.text} `, again);
  }

  /** Somebody else saved meanwhile: show both, and let the person choose. @param {Change} change @param {Sample} stored */
  async settle(change, stored) {
    const { work } = this;
    const { sample } = change;
    const mine = (this.waiting ?? change).annotation;
    const said = [stored, { ...sample, state: work.seen }].map((one) => JSON.stringify([one.annotation, one.contradicting, one.state]));
    this.learn(sample, stored);
    this.waiting ??= change;
    if (said[0] === said[1]) return; // somebody commented: nothing that is said of the picture differs from what was seen
    const who = /** @type {HTMLElement} */ (this.dialog.querySelector("[data-conflict-who]"));
    who.textContent = `${stored.by} saved ${stored.name} while you were working on it. Nothing is overwritten until you choose.`;
    this.side("mine", mine);
    this.side("stored", stored.annotation);
    this.status.textContent = "Not saved: choose a version";
    this.dialog.showModal();
    for (const [name, one] of /** @type {[string, Annotation][]} */ ([["mine", mine], ["stored", stored.annotation]])) { // prettier-ignore
      this.draw(name, one);
    }
    const choice = await this.choice();
    this.dialog.close();
    if (choice === "stored") {
      this.waiting = null;
      work.take(stored);
      this.status.textContent = `Took the version of ${stored.by}`;
    }
  }

  /** @returns {Promise<string>} */
  choice() {
    const buttons = [.../** @type {NodeListOf<HTMLElement>} */ (this.dialog.querySelectorAll("[data-keep]"))];
    return new Promise((resolve) => {
      for (const button of buttons) {
        button.onclick = () => resolve(button.dataset.keep ?? "");
      }
    });
  }

  /** @param {string} name @param {Annotation} one */
  side(name, one) {
    const text = this.dialog.querySelector(`[data-side="${name}"] figcaption span`);
    if (text) text.textContent = summary(one);
  }

  /** @param {string} name @param {Annotation} annotation */
  draw(name, annotation) {
    const canvas = /** @type {HTMLCanvasElement} */ (this.dialog.querySelector(`[data-side="${name}"] canvas`));
    const view = new View(canvas);
    [view.picture, view.size] = [this.work.view.picture, this.work.size];
    view.draw({
      annotation, mask: new PaintedMask(view.size, annotation.mask), selected: null, drawn: [], closed: false,
      offers: [], cursor: null, radius: 0,
    }); // prettier-ignore
  }
}
