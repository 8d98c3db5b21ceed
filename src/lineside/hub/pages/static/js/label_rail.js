// @ts-check
/** What is said of the whole picture: its labels, count, state and comments. */
import { make, when } from "./dom.js";
import { problemOf, showProblem } from "./forms.js";
import { post } from "./label_sync.js";
import { narrow } from "./menus.js";

/** @typedef {import("./label_work.js").Work} Work */

/** Labels with one switched on or off; who names labels alone leaves what was judged to the hub. @param {string[]} labels @param {string} name */
export function toggled(labels, name) {
  return labels.includes(name) ? labels.filter((one) => one !== name) : [...labels, name];
}

/** Labels after an answer for one region. @param {string[]} labels @param {string} region @param {string} name "" for not judged */
export function answered(labels, region, name) {
  const others = labels.filter((one) => !one.startsWith(`${region}/`));
  return name ? [...others, name] : others;
}

export class Rail {
  /** @param {Work} work @param {HTMLElement} root @param {string} address of the samples */
  constructor(work, root, address) {
    this.work = work;
    this.root = root;
    this.address = address;
    this.buttons = /** @type {HTMLButtonElement[]} */ ([...root.querySelectorAll("[data-name]")]);
    this.regions = /** @type {HTMLSelectElement[]} */ ([...root.querySelectorAll("[data-region]")]);
    this.states = /** @type {HTMLButtonElement[]} */ ([...root.querySelectorAll("[data-state]")]);
    this.count = /** @type {HTMLInputElement} */ (root.querySelector("[data-count]"));
    this.comments = /** @type {HTMLElement} */ (root.querySelector("[data-comments]"));
    this.disputed = /** @type {HTMLElement} */ (root.querySelector("[data-disputed]"));
    for (const button of this.buttons) button.addEventListener("click", () => this.toggle(button.dataset.name ?? ""));
    for (const select of this.regions) select.addEventListener("change", () => this.answer(select));
    for (const button of this.states) button.addEventListener("click", () => this.state(button.dataset.state ?? ""));
    this.count.addEventListener("change", () => this.counted());
    root.querySelector("[data-none]")?.addEventListener("click", () => this.none());
    root.querySelector("[data-narrow]")?.addEventListener("input", (event) => this.narrow(event));
    const form = /** @type {HTMLFormElement | null} */ (root.querySelector("[data-comment-form]"));
    form?.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.comment(form);
    });
  }

  /** Names of whole pictures, in the order of their keys. */
  get names() {
    return this.buttons.map((button) => button.dataset.name ?? "");
  }

  show() {
    const { labels, known, count } = this.work.now;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(labels.includes(button.dataset.name ?? "")));
    for (const select of this.regions) {
      select.value = labels.find((one) => one.startsWith(`${select.dataset.region}/`)) ?? "";
    }
    const none = this.root.querySelector("[data-none]");
    none?.setAttribute("aria-pressed", String(!labels.length && Boolean(known?.length)));
    if (document.activeElement !== this.count) this.count.value = count === null ? "" : String(count);
    for (const button of this.states) button.setAttribute("aria-pressed", String(button.dataset.state === this.work.sample?.state));
    const disputed = (this.work.sample?.disputed ?? []).map((one) => one.replace(/[()]/g, ""));
    this.disputed.hidden = !disputed.length;
    this.disputed.textContent = `Judged in two ways, so it counts as not judged: ${disputed.join(", ")}. Whoever judges that again, or takes one of these judgements, settles it.`;
    const comments = (this.work.sample?.comments ?? []).map(({ text, by, at }) =>
      make("li", {}, make("p", {}, text), make("small", { class: "muted" }, `${by}, `, when(at, "both"))),
    );
    this.comments.replaceChildren(...comments);
  }

  /** @param {string} name */
  toggle(name) {
    const { now } = this.work;
    this.work.change({ ...now, labels: toggled(now.labels, name), known: null });
  }

  /** @param {HTMLSelectElement} select */
  answer(select) {
    const { now } = this.work;
    this.work.change({ ...now, labels: answered(now.labels, select.dataset.region ?? "", select.value), known: null });
  }

  /** None of the labels holds: all of them were judged. */
  none() {
    const { now } = this.work;
    const judged = !now.labels.length && now.known?.length;
    this.work.change({ ...now, labels: [], known: judged ? [] : this.names });
  }

  counted() {
    if (!this.count.reportValidity()) return;
    this.work.change({ ...this.work.now, count: this.count.value === "" ? null : Number(this.count.value) });
  }

  /** @param {string} state */
  state(state) {
    if (!this.work.may || !this.work.sample) return;
    this.work.sample.state = this.work.history.choose(state);
    this.work.onShow();
    this.work.onChange();
  }

  /** Show only the labels that hold what was typed. @param {Event} event */
  narrow(event) {
    narrow(this.buttons, /** @type {HTMLInputElement} */ (event.target).value);
  }

  /** @param {HTMLFormElement} form */
  async comment(form) {
    const { sample } = this.work;
    const field = /** @type {HTMLTextAreaElement} */ (form.elements.namedItem("text"));
    if (!sample || !field.value.trim() || !(await this.work.settled())) return;
    form.querySelector(".problem")?.remove();
    const response = await post(`${this.address}/${sample.digest}/comments`, { text: field.value });
    if (!response.ok) return showProblem(form, await problemOf(response));
    const stored = await response.json();
    // A comment is a change of the record: nobody else may have changed the rest meanwhile.
    if (stored.revision === sample.revision + 1) sample.revision = stored.revision;
    [sample.comments, sample.disputed, sample.contradicting] = [stored.comments, stored.disputed, stored.contradicting];
    field.value = "";
    this.work.onShow();
  }
}
