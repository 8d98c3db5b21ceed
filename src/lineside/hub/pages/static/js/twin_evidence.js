// @ts-check
/** What the chosen place or station rests on: the very picture, the value, and the way back. */
import { tellTimes } from "./page.js";
import { fragment } from "./parts.js";
import { wirePictures } from "./picture.js";

const RETRY_MS = 500; // an answer may be stored a moment before the picture it names

export class Evidence {
  /** @param {HTMLElement} panel */
  constructor(panel) {
    this.panel = panel;
    this.hint = [...panel.childNodes];
    this.shown = "";
    this.shownAt = 0;
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
    if (!thing) return this.panel.replaceChildren(...this.hint);
    for (let tries = 0; tries < 2; tries += 1) {
      const found = await fragment(`/twin/evidence?${kind}=${encodeURIComponent(id)}`);
      if (!found || mark !== this.shown) return;
      const awaited = found.querySelector("[data-awaited]");
      this.panel.replaceChildren(found);
      wirePictures(this.panel);
      tellTimes();
      if (!awaited) return;
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}
