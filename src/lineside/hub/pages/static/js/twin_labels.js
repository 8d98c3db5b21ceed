// @ts-check
/** Buttons over the scene, one a station and one a place, so that keyboard and screen reader have them. */
import { nextLabel, placeLabels } from "./twin_layout.js";
import { placeNote } from "./twin_model.js";

const SVG = "http://www.w3.org/2000/svg";

export class Labels {
  /**
   * @param {import("./twin_scene.js").Scene} scene @param {HTMLElement} element @param {any} plan
   * @param {(key: string) => void} choose
   */
  constructor(scene, element, plan, choose) {
    this.scene = scene;
    this.element = element;
    this.legend = /** @type {HTMLElement} */ (element.querySelector("[data-legend]"));
    this.leftOut = /** @type {HTMLElement} */ (element.querySelector("[data-left-out]"));
    /** @type {Map<string, HTMLButtonElement>} */
    this.buttons = new Map();
    /** @type {import("./twin_layout.js").Placed[]} */
    this.placed = [];
    this.lines = document.createElementNS(SVG, "svg");
    this.lines.setAttribute("class", "leaders");
    this.lines.setAttribute("aria-hidden", "true");
    element.append(this.lines);
    for (const { id, name } of plan.stations) this.add(`station:${id}`, name, "tag", choose);
    for (const id of plan.slots) this.add(`slot:${id}`, id, "tag place", choose);
    this.reach([...this.buttons.keys()][0]);
    element.addEventListener("keydown", (event) => this.move(event));
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
    button.addEventListener("focus", () => this.reach(key));
    this.element.append(button);
    this.buttons.set(key, button);
  }

  /** One label is reached by Tab, the others from there by arrow keys. @param {string} key */
  reach(key) {
    for (const [other, button] of this.buttons) button.tabIndex = other === key ? 0 : -1;
  }

  /** @param {KeyboardEvent} event */
  move(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    if (event.shiftKey) return this.scene.turnBy({ ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key] ?? 0);
    const from = /** @type {HTMLElement} */ (event.target).dataset.key ?? "";
    this.buttons.get(nextLabel(event.key, from, this.placed))?.focus();
  }

  /** Stations above their silhouette and places below their disc, none over a disc; a line leads from one that had to move. */
  place() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const labels = [...this.buttons].flatMap(([key, button]) => {
      const at = this.scene.project(key);
      button.hidden = false;
      return at
        ? [{ key, ...at, width: button.offsetWidth, height: button.offsetHeight, above: !key.startsWith("slot:") }]
        : [];
    });
    const { offsetLeft: x, offsetTop: y, offsetWidth, offsetHeight } = this.legend;
    const legend = { x, y, width: offsetWidth, height: offsetHeight };
    const pieces = labels.filter((one) => !one.above).map((one) => ({ x: one.x - 8, y: one.y - 10, width: 16, height: 9 }));
    this.placed = placeLabels(labels, { width, height }, [legend, ...pieces]);
    const shown = new Map(this.placed.map((one) => [one.key, one]));
    for (const [key, button] of this.buttons) {
      const at = shown.get(key);
      button.hidden = !at;
      if (at) button.style.transform = `translate(${at.x}px, ${at.y}px)`;
    }
    const left = this.buttons.size - shown.size;
    this.leftOut.textContent = left ? ` ${left} more in the table.` : "";
    this.lines.replaceChildren(...this.placed.flatMap(({ leader }) => (leader ? [lineOf(leader)] : [])));
  }

  /** @param {string} key */
  press(key) {
    for (const [other, button] of this.buttons) button.setAttribute("aria-pressed", String(other === key));
  }

  /**
   * @param {import("./twin_model.js").SceneView} view @param {import("./twin_model.js").PlaceView[]} places
   * @param {number} now_ms
   */
  say(view, places, now_ms) {
    for (const { id, active, word } of Object.values(view.stations)) {
      const button = this.buttons.get(`station:${id}`);
      button?.toggleAttribute("data-active", Boolean(active));
      this.note(button, word);
    }
    for (const one of places) this.note(this.buttons.get(`slot:${one.id}`), placeNote(one, now_ms));
    this.place();
  }

  /** @param {HTMLButtonElement | undefined} button @param {string} text */
  note(button, text) {
    const small = button?.querySelector("small");
    if (small && small.textContent !== text) small.textContent = text;
  }
}

/** @param {number[]} ends x and y of both */
function lineOf(ends) {
  const line = document.createElementNS(SVG, "line");
  ["x1", "y1", "x2", "y2"].forEach((name, n) => line.setAttribute(name, String(ends[n])));
  return line;
}
