// @ts-check
/** The fields of the chosen region, and the button that copies the TOML. */
import { classesOf } from "./regions_model.js";

/** @typedef {import("./regions_model.js").Region} Region */

export class RegionForm {
  /**
   * @param {HTMLElement} root
   * @param {(id: string, changed: Partial<Region>) => void} change @param {(id: string) => void} remove
   */
  constructor(root, change, remove) {
    this.panel = /** @type {HTMLElement} */ (root.querySelector("[data-fields]"));
    this.form = /** @type {HTMLFormElement} */ (root.querySelector("[data-region-form]"));
    this.id = "";
    this.form.addEventListener("change", () => this.form.reportValidity() && change(this.id, this.read()));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    root.querySelector("[data-delete]")?.addEventListener("click", () => remove(this.id));
    root.querySelector("[data-copy]")?.addEventListener("click", () => void this.copy(root));
  }

  /** @param {string} name */
  field(name) {
    return /** @type {HTMLInputElement} */ (this.form.elements.namedItem(name));
  }

  /** @returns {Partial<Region>} */
  read() {
    const answers = this.field("answers").value;
    const several = this.field("kind").value === "classes";
    return {
      id: this.field("id").value,
      label: several ? "" : answers.trim(),
      classes: several ? classesOf(answers) : [],
      box: ["x0_px", "y0_px", "x1_px", "y1_px"].map((name) => Number(this.field(name).value)),
    };
  }

  /** @param {Region | undefined} region */
  show(region) {
    this.panel.hidden = !region;
    if (!region) return;
    this.id = region.id;
    this.field("id").value = region.id;
    this.field("kind").value = region.classes.length ? "classes" : "label";
    this.field("answers").value = region.classes.join(", ") || region.label;
    ["x0_px", "y0_px", "x1_px", "y1_px"].forEach((name, n) => (this.field(name).value = String(region.box[n])));
  }

  /** The clipboard is there on loopback and TLS only; elsewhere the text is selected to be copied by hand. @param {HTMLElement} root */
  async copy(root) {
    const text = /** @type {HTMLElement} */ (root.querySelector("[data-toml]"));
    const said = root.querySelector("[data-copied]");
    getSelection()?.selectAllChildren(text);
    const done = await navigator.clipboard?.writeText(text.textContent ?? "").then(
      () => true,
      () => false,
    );
    if (said) said.textContent = done ? "Copied." : "Selected: press Ctrl C.";
  }
}
