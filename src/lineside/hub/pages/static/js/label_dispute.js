// @ts-check
/** Judgements that contradict each other: each is drawn in a line style of its own, and can be taken. */
import { make, when } from "./dom.js";
import { ask, problemOf } from "./forms.js";
import { accepted } from "./label_aid.js";
import { PaintedMask } from "./label_mask.js";
import { summary } from "./label_model.js";

/** @typedef {import("./label_work.js").Sample} Sample */
/** @typedef {import("./label_view.js").Offer} Offer */

const STYLES = [
  { colour: "#5fd7ff", dash: [12, 5], fill: "rgba(95,215,255,0.25)", paint: [95, 215, 255, 130] },
  { colour: "#ff9f43", dash: [2, 4], fill: "rgba(255,159,67,0.25)", paint: [255, 159, 67, 130] },
];

export class Dispute {
  /** @param {import("./label_work.js").Work} work @param {HTMLElement} root @param {string} address of the samples */
  constructor(work, root, address) {
    this.work = work;
    this.address = address;
    this.list = /** @type {HTMLElement} */ (root.querySelector("[data-judgements]"));
    /** What is listed: image and numbers. */
    this.listed = "";
  }

  show() {
    const { sample } = this.work;
    const listed = sample?.contradicting.length ? [sample.digest, ...sample.contradicting].join(" ") : "";
    if (listed === this.listed) return;
    this.listed = listed;
    this.work.opinions = [];
    this.list.replaceChildren();
    if (sample && listed) void this.load(sample);
  }

  /** @param {Sample} sample */
  async load(sample) {
    const { listed, work } = this;
    const answers = await Promise.all(sample.contradicting.map((n) => ask(`${this.address}/${sample.digest}?judgement=${n}`)));
    const failed = answers.find((one) => !one.ok);
    if (failed) return void this.list.replaceChildren(make("li", {}, (await problemOf(failed)).text));
    /** @type {Sample[]} */
    const found = await Promise.all(answers.map((one) => one.json()));
    if (listed !== this.listed) return;
    const opinions = found.map(({ annotation, by }, n) => {
      const { paint, ...style } = STYLES[n % STYLES.length];
      return { annotation, by, style, mask: annotation.mask && new PaintedMask(work.size, annotation.mask, paint) };
    });
    work.opinions = opinions;
    this.list.replaceChildren(...opinions.map((one, n) => this.row(one, found[n].at, opinions)));
    work.draw();
  }

  /** @param {Offer} one @param {string} at @param {Offer[]} all */
  row(one, at, all) {
    const { work } = this;
    const { colour, dash } = one.style;
    const line = `border-top: 3px ${dash[0] < 5 ? "dotted" : "dashed"} ${colour}`;
    const button = make("button", { type: "button", class: "small", "aria-pressed": "true" }, make("i", { class: "label-line" }, make("i")), `${one.by}: ${summary(one.annotation)}`);
    /** @type {HTMLElement} */ (button.querySelector("i i")).style.cssText = line;
    button.addEventListener("click", () => {
      const isShown = work.opinions.includes(one);
      work.opinions = all.filter((each) => (each === one ? !isShown : work.opinions.includes(each)));
      button.setAttribute("aria-pressed", String(!isShown));
      work.draw();
    });
    const row = make("li", {}, button, make("small", { class: "muted" }, when(at, "both")));
    if (!work.writes) return row;
    const take = make("button", { type: "button", class: "small", "aria-label": `Take the judgement of ${one.by}` }, "Take");
    take.addEventListener("click", () => work.change(accepted(work.now, one.annotation)));
    row.append(take);
    return row;
  }
}
