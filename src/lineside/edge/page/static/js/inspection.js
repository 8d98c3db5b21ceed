// @ts-check
/** What one inspection says of the newest picture, and its heat map on request. */
import { answerText, markOf, saidOf } from "./answers.js";
import { fill, make, mark, put } from "./dom.js";
import { milliseconds, probability, tail } from "./format.js";

const CLASSES = ["classify", "multilabel"];

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

  /** @param {any} prediction of the picture that is drawn, if any */
  show(prediction) {
    if (!prediction) return this.nothing();
    this.element.removeAttribute("data-nothing");
    this.button.hidden = false;
    const masked = prediction.task !== "segment" || prediction.mask || prediction.state !== "ok";
    put(this.answer, masked ? answerText(prediction) : "No segmentation mask available");
    fill(this.state, mark(markOf("live", prediction, "")));
    fill(this.confidence, ...confidences(prediction).map((text) => make("span", {}, text)));
    const reason = prediction.reason ? `${prediction.reason}. ` : "";
    const latency = milliseconds(prediction.latency_ms.total);
    put(this.facts, `${reason}Latency: ${latency}, package ${tail(prediction.package)}`);
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

/** What is likely, with how likely it is. @param {any} prediction @returns {string[]} */
export function confidences(prediction) {
  if (prediction.state !== "ok") return [];
  if (prediction.task === "classify") {
    const ordered = [...prediction.labels].sort((a, b) => b.probability - a.probability);
    return ordered.slice(0, 6).map((one) => `${one.label} ${probability(one.probability)}`);
  }
  if (CLASSES.includes(prediction.task) || prediction.task === "segment") {
    return saidOf(prediction).slice(0, 12).map(({ region, label, probability: chance, decision }) => {
      const not = decision === "absent" ? "no " : decision === "unsure" ? "perhaps " : "";
      const where = region && region !== "picture" && region !== label ? `${region}: ` : "";
      return `${where}${not}${label} ${probability(chance)}`;
    });
  }
  return (prediction.boxes ?? [])
    .slice(0, 12)
    .map((/** @type {any} */ box) => `${box.label} ${probability(box.probability)}`);
}
