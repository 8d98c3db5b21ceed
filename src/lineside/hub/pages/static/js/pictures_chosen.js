// @ts-check
/** Pictures that are chosen, and what is done with them: labelled, added to a dataset, exported. */
import { ask, problemOf, showProblem } from "./forms.js";
import { bodyOf, fileOf } from "./pictures_request.js";

class Choice {
  /** @param {HTMLElement} bar */
  constructor(bar) {
    this.bar = bar;
    this.boxes = /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll("[data-select]")]);
    this.all = false;
    this.last = -1;
    for (const [index, box] of this.boxes.entries()) {
      box.addEventListener("click", (event) => this.reach(index, event.shiftKey));
      box.addEventListener("change", () => this.show());
    }
    this.on("[data-clear]", () => this.clear());
    this.on("[data-choose-all]", () => this.chooseAll());
    for (const name of ["label", "dataset", "export"]) this.on(`[data-act="${name}"]`, () => this.act(name));
    this.show();
  }

  /** @param {string} selector @param {() => void} act */
  on(selector, act) {
    this.bar.querySelector(selector)?.addEventListener("click", act);
  }

  get chosen() {
    return this.boxes.filter((box) => box.checked).map((box) => box.value);
  }

  get filter() {
    return this.all ? (this.bar.dataset.filter ?? "").replace(/^\?/, "") : null;
  }

  /** With Shift everything from the last one on. @param {number} index @param {boolean} far */
  reach(index, far) {
    if (far && this.last >= 0) {
      const [from, to] = [this.last, index].sort((a, b) => a - b);
      for (const box of this.boxes.slice(from, to + 1)) box.checked = this.boxes[index].checked;
    }
    this.last = index;
    this.all = false;
    this.show();
  }

  clear() {
    for (const box of this.boxes) box.checked = false;
    this.all = false;
    this.show();
  }

  chooseAll() {
    for (const box of this.boxes) box.checked = true;
    this.all = true;
    this.show();
  }

  show() {
    const count = this.all ? this.bar.dataset.whole || "All matching" : this.chosen.length;
    this.bar.hidden = count === 0;
    const told = /** @type {HTMLElement} */ (this.bar.querySelector("[data-chosen]"));
    told.textContent = `${count} ${count === 1 ? "picture" : "pictures"} selected`;
    const button = /** @type {HTMLElement | null} */ (this.bar.querySelector("[data-choose-all]"));
    if (button) button.hidden = this.all;
  }

  /** @param {string} name */
  act(name) {
    if (!this.all && !this.chosen.length) return;
    if (name === "export") return this.offerFiles();
    const dialog = /** @type {HTMLDialogElement | null} */ (document.querySelector("[data-add]"));
    const form = dialog?.querySelector("form");
    if (!dialog || !form) return;
    form.querySelector(".problem")?.remove();
    const title = /** @type {HTMLElement} */ (dialog.querySelector("[data-add-title]"));
    title.textContent = name === "label" ? "Label" : "Add to dataset";
    const label = /** @type {HTMLInputElement} */ (form.elements.namedItem("label"));
    label.required = name === "label";
    if (name !== "label") label.value = "";
    dialog.showModal();
    (name === "label" ? label : /** @type {HTMLInputElement} */ (form.elements.namedItem("name"))).focus();
  }

  offerFiles() {
    const dialog = /** @type {HTMLDialogElement} */ (document.querySelector("[data-export]"));
    for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (dialog.querySelectorAll("[data-file]"))) {
      link.href = fileOf(link.dataset.file ?? "", this.chosen, this.filter);
    }
    dialog.showModal();
  }

  /** @param {HTMLDialogElement} dialog @param {HTMLFormElement} form */
  async add(dialog, form) {
    const field = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name)).value.trim();
    const label = field("label");
    const body = { ...bodyOf(this.chosen, this.filter), ...(label ? { labels: [label] } : { judged: false }) };
    form.querySelector(".problem")?.remove();
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    const response = await ask(`/api/v1/datasets/${encodeURIComponent(field("name"))}/samples`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    for (const button of buttons) button.disabled = false;
    if (!response.ok) return showProblem(form, await problemOf(response));
    dialog.close();
    this.clear();
    this.bar.hidden = false;
    const told = /** @type {HTMLElement} */ (this.bar.querySelector("[data-chosen]"));
    const link = document.createElement("a");
    link.href = `/datasets/${encodeURIComponent(field("name"))}`;
    link.textContent = field("name");
    told.replaceChildren("Added to ", link, ".");
  }
}

const KEYS = { l: "label", a: "dataset", e: "export" };

const bar = typeof document === "undefined" ? null : /** @type {HTMLElement | null} */ (document.querySelector("[data-bar]"));
if (bar) {
  const choice = new Choice(bar);
  const dialog = /** @type {HTMLDialogElement | null} */ (document.querySelector("[data-add]"));
  const form = dialog?.querySelector("form");
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    if (dialog) void choice.add(dialog, form);
  });
  dialog?.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
  addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (/^(TEXTAREA|SELECT)$/.test(target.tagName) || (target.matches("input") && !target.matches("[data-select]"))) return;
    if (event.key === "Escape") return choice.clear();
    const name = KEYS[/** @type {keyof typeof KEYS} */ (event.key.toLowerCase())];
    if (name && !bar.hidden) {
      event.preventDefault();
      choice.act(name);
    } else if (event.key === "x") {
      const box = /** @type {HTMLInputElement | null} */ (target.closest("li")?.querySelector("[data-select]") ?? null);
      box?.click();
    }
  });
}
