// @ts-check
/** What one inspection says of the newest picture, and its heat map on request. */
import { fill, make, mark, put } from "./dom.js";

/** @typedef {Record<string, any>} Row */

export class Answers {
  /** @param {Row} row */
  constructor(row) {
    this.id = row.id;
    this.row = row;
    this.state = make("span", {});
    this.answer = make("p", { class: "answer" });
    this.confidence = make("p", { class: "confidence" });
    this.facts = make("p", { class: "note" });
    this.figure = make("figure", {});
    this.button = make("button", { class: "small", type: "button" }, "Show what spoke for it");
    this.button.addEventListener("click", () => void this.explain());
    this.element = make(
      "article",
      { class: "inspection", "data-inspection": row.id },
      make("header", {}, make("h3", {}, `${row.id}, ${row.task}`), this.state),
      this.answer,
      this.confidence,
      this.facts,
      make("p", {}, this.button),
      this.figure,
    );
    this.nothing();
  }

  /** @param {any} shown the answer to the picture that is drawn, in the server's words, if any */
  show(shown) {
    if (!shown) return this.nothing();
    this.element.removeAttribute("data-nothing");
    this.button.hidden = false;
    put(this.answer, shown.answer);
    fill(this.state, mark(shown.mark));
    fill(this.confidence, ...shown.confidence.map((/** @type {string} */ text) => make("span", {}, text)));
    put(this.facts, shown.facts);
  }

  nothing() {
    this.element.setAttribute("data-nothing", "");
    this.button.hidden = true;
    put(this.answer, this.row.nothing);
    fill(this.state);
    fill(this.confidence);
    put(this.facts, "");
  }

  /** Ask the package once more, for this picture only. */
  async explain() {
    const answer = await fetch(`/api/latest/${encodeURIComponent(this.id)}/heat`, { cache: "no-store" });
    if (!answer.ok) {
      const said = await answer.json();
      fill(this.figure, make("p", { class: "warn", role: "status" }, `${said.detail}. ${said.fix}`));
      return;
    }
    const source = URL.createObjectURL(await answer.blob());
    const picture = /** @type {HTMLImageElement} */ (
      make("img", { src: source, alt: `Picture with what spoke for the answer of ${this.id}` })
    );
    picture.addEventListener("load", () => URL.revokeObjectURL(source), { once: true });
    const frame = answer.headers.get("x-lineside-frame") ?? "";
    const words = `What spoke for the answer: amber some, magenta most. Frame ${frame}`;
    this.figure.replaceChildren(picture, make("figcaption", { class: "note" }, words));
  }
}
