// @ts-check
/** One camera's tile: picture and answer of the same frame, or the words that say why not. */
import { answerText, markOf, unsureCount } from "./answers.js";
import { milliseconds, span, tail } from "./format.js";
import { drawOverlay, fit, prepareCanvas } from "./overlay.js";
import { listAnswers, listBeside } from "./tile_answers.js";

const SILENT_S = 2; // the server's status comes every second; two missed are a loss

export class Tile {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.camera = element.dataset.camera ?? "";
    this.frameBox = /** @type {HTMLElement} */ (element.querySelector(".tile-picture"));
    this.large = element.classList.contains("large");
    this.canvas = /** @type {HTMLCanvasElement} */ (element.querySelector("canvas"));
    this.plans = JSON.parse(element.dataset.plans ?? "{}");
    this.names = JSON.parse(element.dataset.names ?? "{}");
    this.prediction = JSON.parse(element.dataset.prediction ?? "null");
    /** @type {any[]} answers of further inspections to the same frame */
    this.also = JSON.parse(element.dataset.also ?? "[]");
    this.told = element.dataset.state ?? "never"; // what the server last said of the camera
    this.state = this.told;
    this.since = element.dataset.since ? new Date(element.dataset.since).getTime() : Date.now();
    /** @type {ImageBitmap | HTMLImageElement | null} */
    this.picture = null;
    this.wroteAt = 0;
    this.later = 0;
    this.bare = 0; // how often in a row no further inspection had answered when words were written
    if (element.dataset.frame) void this.loadFirst(element.dataset.frame);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** The newest stored picture, until the socket brings one. @param {string} frame */
  async loadFirst(frame) {
    const picture = new Image();
    picture.src = `/api/v1/frames/${encodeURIComponent(frame)}/picture`;
    await picture.decode().catch(() => undefined);
    if (picture.naturalWidth && !this.picture) {
      this.picture = picture;
      this.draw();
    }
  }

  /** @param {any} header @param {Blob | null} blob */
  async show(header, blob) {
    if (!blob) return;
    const picture = await createImageBitmap(blob);
    if (this.picture instanceof ImageBitmap) this.picture.close();
    this.picture = picture;
    this.prediction = header.prediction;
    this.also = header.also;
    this.frame = header.frame.id;
    this.told = "live";
    this.since = Date.now();
    this.element.querySelector(".tile-picture > p")?.remove();
    this.draw();
    this.write();
  }

  /** What the server says of this camera. @param {{state: string, since: string | null}} status */
  hear(status) {
    this.told = status.state;
    if (status.since) this.since = new Date(status.since).getTime();
  }

  draw() {
    const { context, size } = prepareCanvas(this.canvas);
    if (!this.picture || !size.width) return;
    const picture = { width: this.picture.width, height: this.picture.height };
    if (this.large) this.frameBox.style.aspectRatio = `${picture.width} / ${picture.height}`;
    const place = fit(picture, size);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, place.x, place.y, place.width, place.height);
    if (!this.prediction) return;
    for (const said of [this.prediction, ...this.also]) {
      drawOverlay(context, place, said, this.plans[said.inspection], picture);
    }
  }

  /** Text at most four times a second, the last one always: digits that dance cannot be read. */
  write() {
    const wait_ms = this.wroteAt + 250 - performance.now();
    if (wait_ms > 0) {
      this.later ||= window.setTimeout(() => ((this.later = 0), this.write()), wait_ms);
      return;
    }
    this.wroteAt = performance.now();
    const said = this.prediction;
    this.put("[data-answer]", said ? answerText(said) : "–");
    const all = said ? [said, ...this.also] : [];
    this.put("[data-unsure]", said ? String(all.reduce((sum, one) => sum + unsureCount(one), 0)) : "–");
    this.put("[data-latency]", said ? milliseconds(said.latency_ms.total) : "–");
    if (said) listAnswers(this.element, said);
    // The first answer to a frame comes alone: the words of the others stay, pale, until theirs do.
    this.bare = this.also.length ? 0 : this.bare + 1;
    if (this.bare !== 1 && this.bare !== 2) listBeside(this.element, this.also);
    this.element.querySelector("[data-beside]")?.toggleAttribute("data-stale", this.bare > 0);
    if (this.frame) {
      this.frameBox.setAttribute("href", `/frames/${this.frame}`);
      this.link("[data-frame-link]", `/frames/${this.frame}`, this.frame, tail(this.frame));
    }
    if (said) {
      const name = this.names[said.package];
      const text = (name ? name + "@" : "") + tail(said.package);
      this.link("[data-package]", `/models/${said.package}`, said.package, text);
    }
  }

  /** @param {string} where @param {string} text */
  put(where, text) {
    const element = this.element.querySelector(where);
    if (element && element.textContent !== text) element.textContent = text;
  }

  /** @param {string} where @param {string} href @param {string} title @param {string} text */
  link(where, href, title, text) {
    const place = this.element.querySelector(where);
    let link = place?.querySelector("a");
    if (place && !link) {
      link = document.createElement("a");
      link.className = "id";
      place.replaceChildren(link);
    }
    if (!link) return;
    if (link.getAttribute("href") !== href) link.setAttribute("href", href);
    link.title = title;
    if (link.textContent !== text) link.textContent = text;
  }

  /** Twice a second: a frozen picture must not look like a healthy line. @param {number} silence_s */
  tick(silence_s) {
    const lost = silence_s >= SILENT_S;
    const quiet = this.told === "never" ? "never" : lost ? "no signal" : this.told;
    const since_s = lost && this.told === "live" ? silence_s : (Date.now() - this.since) / 1000;
    this.state = quiet;
    const mark = markOf(quiet, this.prediction, span(since_s));
    this.element.dataset.state = quiet;
    this.element.dataset.tone = quiet === "live" ? mark.tone : "";
    const shown = /** @type {HTMLElement} */ (this.element.querySelector("header .state"));
    shown.dataset.shape = mark.shape;
    shown.dataset.tone = mark.tone;
    if (shown.textContent !== mark.word) shown.textContent = mark.word;
  }
}
