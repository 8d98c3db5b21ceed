// @ts-check
/** One camera: its newest picture, what is drawn on it, and what each inspection says. */
import { fill, make, mark, put } from "./dom.js";
import { Answers } from "./inspection.js";
import { drawOverlay, fit, prepareCanvas } from "./overlay.js";
import { span } from "./time.js";

/** @typedef {Record<string, any>} Row */

export class CameraView {
  /** @param {Row} camera @param {Row[]} inspections */
  constructor(camera, inspections) {
    this.camera = camera;
    this.answers = inspections.map((one) => new Answers(one));
    /** @type {Record<string, any>} what is shown of each inspection's answer */
    this.shown = {};
    this.taken = { width: 1, height: 1 };
    /** @type {ImageBitmap | null} */
    this.picture = null;
    this.seenAt = camera.arrived_at ? Date.parse(camera.arrived_at) : 0;
    this.canvas = /** @type {HTMLCanvasElement} */ (
      make("canvas", { role: "img", "aria-label": `Newest picture of ${camera.name}` })
    );
    this.state = make("span", {});
    this.reason = make("p", { class: "reason" });
    this.frame = make("p", { class: "note" });
    /** @type {Row} verdict of the picture that is drawn */
    this.mark = {};
    this.element = make(
      "section",
      { class: "tile camera", "data-camera": camera.id, "aria-label": camera.name },
      make("header", {}, make("h2", {}, camera.name), this.state, this.reason),
      make("div", { class: "tile-picture" }, this.canvas),
      make("div", { class: "answers" }, this.frame, ...this.answers.map((one) => one.element), streams(camera)),
    );
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.tell(Date.now());
  }

  /** @param {Row} header @param {Blob} blob */
  async show(header, blob) {
    const picture = await createImageBitmap(blob);
    this.picture?.close();
    this.picture = picture;
    this.shown = header.shown;
    this.taken = { width: header.width_px, height: header.height_px };
    this.seenAt = Date.now();
    this.mark = header.mark;
    put(this.reason, header.reason);
    this.draw();
    for (const one of this.answers) one.show(this.shown[one.id]);
    put(this.frame, `Frame ${header.frame}${header.part ? `, part ${header.part}` : ""}`);
    this.tell(Date.now());
  }

  draw() {
    const { context, size } = prepareCanvas(this.canvas);
    if (!this.picture || !size.width) return;
    const shown = { width: this.picture.width, height: this.picture.height };
    /** @type {HTMLElement} */ (this.canvas.parentElement).style.aspectRatio = `${shown.width} / ${shown.height}`;
    const whole = fit(shown, size);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, whole.x, whole.y, whole.width, whole.height);
    const place = fit(this.taken, size); // what was judged may be larger than what is shown
    for (const { overlay } of Object.values(this.shown)) drawOverlay(context, place, overlay, this.taken);
  }

  /** How long ago the last picture came. @param {number} now */
  tell(now) {
    const silent = (now - this.seenAt) / 1000;
    const quiet = silent > (this.camera.silent_after_s ?? (this.seenAt ? Infinity : 0));
    const word = this.seenAt ? `no picture for ${span(silent)}` : "no picture yet";
    const shown = quiet ? { shape: "struck", tone: "warn", word } : /** @type {any} */ (this.mark);
    this.element.dataset.state = quiet ? "no signal" : "live";
    this.element.dataset.tone = quiet ? "" : shown.tone;
    this.reason.hidden = quiet;
    fill(this.state, ...(shown.word ? [mark(shown)] : []));
  }
}

/** Where panels and players watch, with the answer written on each picture. @param {Row} camera */
function streams(camera) {
  const place = `/cameras/${encodeURIComponent(camera.id)}`;
  const sizes = ["480p", "720p", "1080p"].map((size) =>
    make("a", { href: `${place}/answers.mjpeg?size=${size}` }, size),
  );
  const links = [make("a", { href: `${place}/live.mjpeg` }, "as taken"), ...sizes];
  return make("p", { class: "note" }, "Stream (MJPEG): ", ...links.flatMap((one) => [one, " "]));
}
