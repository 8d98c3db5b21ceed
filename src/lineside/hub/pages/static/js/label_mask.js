// @ts-check
/** A mask that is painted: brush, eraser, polygons, run lengths, and its picture. */
import { runsOf } from "./overlay.js";

/** @typedef {import("./label_model.js").Mask} Mask */
/** @typedef {import("./label_model.js").Size} Size */

const COLOUR = [214, 0, 147, 140];

/** Pixels column by column, as run lengths go. */
export class PaintedMask {
  /** @param {Size} size @param {Mask | null} [mask] @param {number[]} [colour] red, green, blue, opacity */
  constructor(size, mask = null, colour = COLOUR) {
    this.size = size;
    this.colour = colour;
    this.bits = new Uint8Array(size.width * size.height);
    for (const [start, length] of runsOf(mask?.rle ?? "")) this.bits.fill(1, start, start + length);
    this.layer = new OffscreenCanvas(Math.max(1, size.width), Math.max(1, size.height));
    this.render([0, 0, size.width, size.height]);
  }

  /** How many pixels are set. */
  get area() {
    let sum = 0;
    for (const bit of this.bits) sum += bit;
    return sum;
  }

  /** The run lengths, or null where no pixel is set. @returns {Mask | null} */
  encode() {
    const { width, height } = this.size;
    const runs = [];
    let value = 0;
    let length = 0;
    let any = false;
    for (const bit of this.bits) {
      if (bit === value) length += 1;
      else {
        runs.push(length);
        [value, length, any] = [bit, 1, true];
      }
    }
    runs.push(length);
    return any ? { rle: runs.join(" "), width_px: width, height_px: height } : null;
  }

  /**
   * Set or clear the pixels whose centres are within `radius` of a line.
   * @param {number[]} from @param {number[]} to @param {number} radius @param {0 | 1} value
   */
  stroke([ax, ay], [bx, by], radius, value) {
    const { width, height } = this.size;
    const area = [
      Math.max(0, Math.floor(Math.min(ax, bx) - radius)), Math.max(0, Math.floor(Math.min(ay, by) - radius)),
      Math.min(width, Math.ceil(Math.max(ax, bx) + radius)), Math.min(height, Math.ceil(Math.max(ay, by) + radius)),
    ]; // prettier-ignore
    const [dx, dy] = [bx - ax, by - ay];
    const long = dx * dx + dy * dy;
    for (let x = area[0]; x < area[2]; x += 1) {
      for (let y = area[1]; y < area[3]; y += 1) {
        const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
        const along = long ? Math.max(0, Math.min(1, (px * dx + py * dy) / long)) : 0;
        const [ex, ey] = [px - along * dx, py - along * dy];
        if (ex * ex + ey * ey <= radius * radius) this.bits[x * height + y] = value;
      }
    }
    this.render(area);
  }

  /** Set the pixels whose centres lie inside a polygon (even-odd), as the hub does. @param {number[][]} polygon */
  fill(polygon) {
    const { width, height } = this.size;
    for (let y = 0; y < height; y += 1) {
      const centre = y + 0.5;
      const cuts = [];
      for (const [n, [ax, ay]] of polygon.entries()) {
        const [bx, by] = polygon[(n + 1) % polygon.length];
        if (ay <= centre !== by <= centre) cuts.push(ax + ((centre - ay) * (bx - ax)) / (by - ay));
      }
      cuts.sort((a, b) => a - b);
      for (let pair = 0; pair + 1 < cuts.length; pair += 2) {
        const last = Math.min(width, Math.ceil(cuts[pair + 1] - 0.5));
        for (let x = Math.max(0, Math.ceil(cuts[pair] - 0.5)); x < last; x += 1) this.bits[x * height + y] = 1;
      }
    }
    this.render([0, 0, width, height]);
  }

  /** Draw a part of the mask onto its layer. @param {number[]} area */
  render([x0, y0, x1, y1]) {
    const [width, height] = [x1 - x0, y1 - y0];
    if (width <= 0 || height <= 0) return;
    const image = new ImageData(width, height);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        if (this.bits[(x0 + x) * this.size.height + y0 + y]) image.data.set(this.colour, (y * width + x) * 4);
      }
    }
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (this.layer.getContext("2d"));
    context.putImageData(image, x0, y0);
  }
}
