// @ts-check
/** The regions as buttons over the picture: chosen, dragged, resized and deleted by mouse or keys. */
import { make } from "./dom.js";
import { moved, resized } from "./regions_model.js";

/** @typedef {import("./regions_model.js").Region} Region */
/** @typedef {{x: number, y: number}} Point */

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Call `step` while the pointer moves and `end` when it is lifted.
 * @param {(event: PointerEvent) => void} step @param {() => void} [end]
 */
export function follow(step, end) {
  addEventListener("pointermove", step);
  const stop = () => {
    removeEventListener("pointermove", step);
    end?.();
  };
  addEventListener("pointerup", stop, { once: true });
}

export class Buttons {
  /**
   * @param {HTMLElement} place @param {HTMLCanvasElement} canvas
   * @param {{box: (id: string, box: number[], keep: boolean) => void, remove: (id: string) => void, choose: (id: string) => void}} told
   */
  constructor(place, canvas, told) {
    this.place = place;
    this.canvas = canvas;
    this.told = told;
    this.size = { width: 1, height: 1 };
    /** @type {Region[]} */
    this.regions = [];
  }

  /** Where the pointer is, in the picture's own pixels. @param {MouseEvent} event @returns {Point} */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.size.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  /** Buttons keep their identity while their box changes, so focus and drags survive. @param {Region[]} regions @param {{width: number, height: number}} size @param {string} chosen */
  show(regions, size, chosen) {
    this.regions = regions;
    this.size = size;
    const standing = new Map([...this.place.querySelectorAll("button")].map((one) => [one.dataset.id ?? "", one]));
    for (const [id, button] of standing) if (!regions.some((one) => one.id === id)) button.remove();
    for (const { id, box, label, classes } of regions) {
      const button = standing.get(id) ?? this.make(id);
      const [x0, y0, x1, y1] = box;
      button.style.left = `${(x0 / size.width) * 100}%`;
      button.style.top = `${(y0 / size.height) * 100}%`;
      button.style.width = `${((x1 - x0) / size.width) * 100}%`;
      button.style.height = `${((y1 - y0) / size.height) * 100}%`;
      button.setAttribute("aria-pressed", String(id === chosen));
      button.setAttribute("aria-label", `Region ${id}, ${classes.join(", ") || label}, ${box.join(" ")}`);
    }
  }

  /** @param {string} id */
  make(id) {
    const button = make("button", { class: "region", type: "button" }, make("span", {}, id), make("i"));
    button.dataset.id = id;
    button.setAttribute("aria-describedby", "region-keys");
    button.addEventListener("focus", () => this.told.choose(id));
    button.addEventListener("keydown", (event) => this.keys(event, id));
    button.addEventListener("pointerdown", (event) => this.drag(event, id));
    this.place.append(button);
    return /** @type {HTMLButtonElement} */ (button);
  }

  /** @param {string} id */
  box(id) {
    return this.regions.find((one) => one.id === id)?.box;
  }

  /** @param {KeyboardEvent} event @param {string} id */
  keys(event, id) {
    const box = this.box(id);
    const step = ARROWS[/** @type {keyof typeof ARROWS} */ (event.key)];
    if (event.key === "Delete" || event.key === "Backspace") this.told.remove(id);
    else if (!box || !step) return;
    else {
      const by = event.shiftKey ? 10 : 1;
      const shift = event.altKey ? resized : moved;
      this.told.box(id, shift(box, step[0] * by, step[1] * by, this.size), true);
    }
    event.preventDefault();
  }

  /** @param {PointerEvent} down @param {string} id */
  drag(down, id) {
    const box = this.box(id);
    if (!box) return;
    const shift = /** @type {HTMLElement} */ (down.target).tagName === "I" ? resized : moved;
    const from = this.at(down);
    let first = true;
    follow((event) => {
      const now = this.at(event);
      this.told.box(id, shift(box, now.x - from.x, now.y - from.y, this.size), first);
      first = false;
    });
  }
}
