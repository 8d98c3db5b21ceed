// @ts-check
/** What the chosen place or station rests on: the very picture, the value, and the way back. */
import { make } from "./dom.js";
import { tail } from "./format.js";
import { ask } from "./forms.js";
import { layOver } from "./picture.js";
import { facts } from "./twin_panels.js";

// An answer may be stored a moment before the picture it names: two messages, two commits.
const RETRY_MS = 500;
const HINT = "Choose a place or a station, in the scene or in a table, to see the evidence for its state.";

export class Evidence {
  /** @param {HTMLElement} panel @param {any} plan */
  constructor(panel, plan) {
    this.panel = panel;
    this.plan = plan;
    this.shown = "";
    this.shownAt = 0;
    /** @type {string} */
    this.value = "";
  }

  /**
   * Anew when the choice or the value changed; the picture behind an unchanged value once a second.
   * @param {any} state @param {string} chosen
   */
  async show(state, chosen) {
    const [kind, id] = chosen.split(":");
    const thing = kind === "slot" ? state.slots[id] : kind ? state.stations[id] : null;
    const mark = `${chosen} ${thing?.evidence.event ?? ""} ${thing?.reported ?? ""}`;
    const value = `${chosen} ${thing?.seen ?? thing?.active ?? ""} ${thing?.colour ?? ""}`;
    const soon = performance.now() - this.shownAt < 1000 && value === this.value;
    if (mark === this.shown || soon) return;
    this.shown = mark;
    this.value = value;
    this.shownAt = performance.now();
    if (!thing) return this.panel.replaceChildren(make("h2", {}, "Evidence"), make("p", { class: "note" }, HINT));
    const name = kind === "station" ? thing.name : `place ${id}`;
    const list = make("dl", { class: "facts-list" });
    for (const [term, value] of facts(state, chosen)) list.append(make("dt", {}, term), make("dd", {}, value));
    const children = [make("h2", {}, `Evidence: ${name}`)];
    if (thing.evidence.frame) children.push(await this.picture(thing.evidence.frame));
    if (mark === this.shown) this.panel.replaceChildren(...children, list);
  }

  /** The very picture the value rests on, with what was said of it. @param {string} frame */
  async picture(frame) {
    const address = `/api/v1/frames/${encodeURIComponent(frame)}`;
    let response = await ask(address);
    if (response.status === 404) {
      await new Promise((done) => setTimeout(done, RETRY_MS));
      response = await ask(address);
    }
    const image = make("img", { src: `${address}/picture`, alt: `Picture ${tail(frame)}`, width: "320", height: "240" });
    const figure = make("figure", { class: "picture" }, image, make("canvas"));
    if (response.ok) {
      const found = (await response.json()).predictions.find(
        (/** @type {any} */ one) => one.data.inspection === this.plan.inspection,
      );
      layOver(figure, found?.data ?? null, this.plan.plan);
    }
    return make("a", { href: `/frames/${encodeURIComponent(frame)}`, "aria-label": "Open the picture" }, figure);
  }
}
