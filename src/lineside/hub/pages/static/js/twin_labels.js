// @ts-check
/** Buttons over the scene, one a station and one a place, so that keyboard and screen reader have them. */
import { span } from "./time.js";

export class Labels {
  /**
   * @param {import("./twin_scene.js").Scene} scene @param {HTMLElement} element @param {any} plan
   * @param {(key: string) => void} choose
   */
  constructor(scene, element, plan, choose) {
    this.scene = scene;
    this.element = element;
    /** @type {Map<string, HTMLButtonElement>} */
    this.buttons = new Map();
    for (const { id, name } of plan.stations) this.add(`station:${id}`, name, "tag", choose);
    for (const id of plan.slots) this.add(`slot:${id}`, id, "tag place", choose);
    scene.afterDraw.push(() => this.place());
  }

  /** @param {string} key @param {string} text @param {string} look @param {(key: string) => void} choose */
  add(key, text, look, choose) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = look;
    button.dataset.key = key;
    button.setAttribute("aria-pressed", "false");
    button.append(text, document.createElement("small"));
    button.addEventListener("click", () => choose(key));
    this.element.append(button);
    this.buttons.set(key, button);
  }

  /**
   * Stations stand centred above their silhouette, places below their disc; none leaves the scene,
   * and a station's label moves up until it covers no other.
   */
  place() {
    const { clientWidth, clientHeight } = this.element;
    /** @type {{x: number, y: number, width: number, height: number}[]} */
    const taken = [];
    for (const [key, button] of this.buttons) {
      const at = this.scene.project(key);
      if (!at) continue;
      const { offsetWidth: width, offsetHeight: height } = button;
      const slot = key.startsWith("slot:");
      const x = Math.max(2, Math.min(at.x - width / 2, clientWidth - width - 2));
      let y = slot ? at.y + 1 : at.y - height;
      if (!slot) {
        const covers = () =>
          taken.find((o) => x < o.x + o.width && o.x < x + width && y < o.y + o.height && o.y < y + height);
        for (let other = covers(); other; other = covers()) y = other.y - height - 1;
        taken.push({ x, y, width, height });
      }
      y = Math.max(2, Math.min(y, clientHeight - height - 2));
      button.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
    }
  }

  /** @param {string} key */
  press(key) {
    for (const [other, button] of this.buttons) button.setAttribute("aria-pressed", String(other === key));
  }

  /**
   * @param {any} view of `sceneOf` @param {any} state the twin @param {number} now_ms
   */
  say(view, state, now_ms) {
    for (const { id, active } of view.stations) {
      const button = this.buttons.get(`station:${id}`);
      button?.toggleAttribute("data-active", Boolean(active));
      const row = document.querySelector(`[data-station="${CSS.escape(id)}"] [data-mark]`);
      this.note(button, active === false ? "" : (row?.textContent ?? ""));
    }
    for (const slot of view.slots) {
      const at = state.slots[slot.id].evidence.at;
      const old = at ? span((now_ms - new Date(at).getTime()) / 1000) : "";
      const stale = slot.show === "outline" && state.slots[slot.id].seen === "present" ? old : "";
      const doubt = slot.show === "unknown" || slot.show === "unsure" ? "?" : "";
      const notes = [doubt, stale, slot.differs ? "≠" : "", slot.reserved ? "held" : ""];
      this.note(this.buttons.get(`slot:${slot.id}`), notes.filter(Boolean).join(" "));
    }
    this.place();
  }

  /** @param {HTMLButtonElement | undefined} button @param {string} text */
  note(button, text) {
    const small = button?.querySelector("small");
    if (small && small.textContent !== text) small.textContent = text;
  }
}
