// @ts-check
/** What the chosen place or station rests on: the very picture, the value, and the way back. */
import { fragment } from "./parts.js";
import { wirePictures } from "./picture.js";
import { tellTimes } from "./time.js";

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
   * Anew when the choice, its time or its value changed; the picture behind an unchanged value once a second.
   * @param {import("./twin_model.js").SceneView} view @param {string} chosen @param {string} at a time of the past; "" for now
   */
  async show(view, chosen, at) {
    const [kind, id] = chosen.split(":");
    const thing = kind === "slot" ? view.slots[id] : kind ? view.stations[id] : null;
    const mark = `${chosen} ${at} ${thing?.event ?? ""} ${thing?.word ?? ""}`;
    const value = `${chosen} ${thing?.word ?? ""}`;
    const soon = !at && performance.now() - this.shownAt < 1000 && value === this.value;
    if (mark === this.shown || soon) return;
    this.shown = mark;
    this.value = value;
    this.shownAt = performance.now();
    if (!thing) return this.panel.replaceChildren(...this.hint);
    for (let tries = 0; tries < 2; tries += 1) {
      const found = await fragment(`/twin/evidence?${new URLSearchParams({ [kind]: id, at })}`);
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
