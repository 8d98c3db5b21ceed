// @ts-check
/** Zoom and pan of a picture in its place on the screen. */
import { fit } from "./overlay.js";

const MOST_ZOOM = 40;

export class Zoom {
  /** @param {HTMLElement} element in which the picture is seen */
  constructor(element) {
    this.element = element;
    this.size = { width: 1, height: 1 };
    [this.zoom, this.pan] = [1, [0, 0]];
  }

  /** Show all of the picture. */
  reset() {
    [this.zoom, this.pan] = [1, [0, 0]];
  }

  /** Where the picture lies on the canvas. */
  place() {
    const box = this.element.getBoundingClientRect();
    const whole = fit(this.size, box);
    const scale = whole.scale * this.zoom;
    const [width, height] = [this.size.width * scale, this.size.height * scale];
    return { x: (box.width - width) / 2 + this.pan[0], y: (box.height - height) / 2 + this.pan[1], width, height, scale };
  }

  /** A place on the screen in pixels of the picture. @param {{clientX: number, clientY: number}} event */
  at({ clientX, clientY }) {
    const box = this.element.getBoundingClientRect();
    const { x, y, scale } = this.place();
    return [(clientX - box.left - x) / scale, (clientY - box.top - y) / scale];
  }

  /** Zoom, keeping a point of the picture where it is on the screen. @param {number} factor @param {number[]} [about] */
  zoomBy(factor, about = [this.size.width / 2, this.size.height / 2]) {
    const before = this.place();
    this.zoom = Math.max(1, Math.min(MOST_ZOOM, this.zoom * factor));
    if (this.zoom === 1) return this.reset();
    const after = this.place();
    this.pan = [
      this.pan[0] + before.x + about[0] * before.scale - after.x - about[0] * after.scale,
      this.pan[1] + before.y + about[1] * before.scale - after.y - about[1] * after.scale,
    ];
  }

  /** Shift what is seen, by pixels of the screen. @param {number} dx @param {number} dy */
  panBy(dx, dy) {
    if (this.zoom > 1) this.pan = [this.pan[0] + dx, this.pan[1] + dy];
  }
}
