// @ts-check
/**
 * One camera's tile. A frame is drawn as a whole: its picture, its answers and every word of them in
 * one turn; a frame without an answer shows none. Frames follow one another at most four times a
 * second, because digits that dance cannot be read; what comes faster is left out as a whole.
 */
import { become, put } from "./dom.js";
import { drawOverlay, fit, prepareCanvas } from "./overlay.js";
import { parsed } from "./parts.js";
import { span } from "./time.js";

const SILENT_S = 2; // the server's status comes every second; two missed are a loss
const FRAME_MS = 250;

export class Tile {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.camera = element.dataset.camera ?? "";
    this.frameBox = /** @type {HTMLElement} */ (element.querySelector(".tile-picture"));
    this.large = element.classList.contains("large");
    this.canvas = /** @type {HTMLCanvasElement} */ (element.querySelector("canvas"));
    /** @type {import("./overlay.js").Overlay[]} one an answer to the frame */
    this.overlays = JSON.parse(element.dataset.overlays ?? "[]");
    /** @type {{shape: string, tone: string, word: string}} of the frame, while the camera is live */
    this.mark = JSON.parse(element.dataset.mark ?? "{}");
    /** @type {Record<string, string>} words of a camera that shows nothing, by its state */
    this.silent = JSON.parse(element.dataset.silent ?? "{}");
    this.reason = element.dataset.reason ?? ""; // of its verdict, in words
    this.told = element.dataset.state ?? "never"; // what the server last said of the camera
    this.state = this.told;
    this.since = element.dataset.since ? new Date(element.dataset.since).getTime() : Date.now();
    /** @type {ImageBitmap | HTMLImageElement | null} */
    this.picture = null;
    this.size = { width: 0, height: 0 }; // of the frame, in whose pixels overlays are; the socket's picture may be smaller
    this.frame = "";
    this.heatAddress = element.dataset.heat ?? "";
    /** @type {HTMLImageElement | null} why the frame is a reject */
    this.heat = null;
    this.drawnAt = -FRAME_MS;
    this.silence_s = 0;
    /** @type {any} the newest message; one that is no longer it is left out */
    this.newest = null;
    if (element.dataset.frame) void this.loadFirst(element.dataset.frame);
    if (element.dataset.heat) void this.loadHeat(element.dataset.heat, "");
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** The newest stored picture, until the socket brings one. @param {string} frame */
  async loadFirst(frame) {
    const picture = new Image();
    picture.src = `/api/v1/frames/${encodeURIComponent(frame)}/picture`;
    await picture.decode().catch(() => undefined);
    if (picture.naturalWidth && !this.picture) {
      this.picture = picture;
      this.size = { width: picture.naturalWidth, height: picture.naturalHeight };
      this.draw();
    }
  }

  /** Where the network looked, once the hub has computed it, while its frame is shown. @param {string} address @param {string} frame */
  async loadHeat(address, frame) {
    const heat = new Image();
    heat.src = address;
    await heat.decode().catch(() => undefined);
    if (!heat.naturalWidth || this.frame !== frame) return;
    this.heat = heat;
    this.draw();
  }

  /** @param {any} header @param {Blob | null} blob */
  async show(header, blob) {
    if (!blob) return;
    this.newest = header;
    const wait_ms = header.frame.id === this.frame ? 0 : this.drawnAt + FRAME_MS - performance.now();
    if (wait_ms > 0) await new Promise((done) => setTimeout(done, wait_ms));
    if (this.newest !== header) return;
    const picture = await createImageBitmap(blob);
    if (this.newest !== header) return picture.close();
    if (this.picture instanceof ImageBitmap) this.picture.close();
    if (header.frame.id !== this.frame) this.drawnAt = performance.now();
    this.picture = picture;
    this.size = { width: header.width_px, height: header.height_px };
    if (header.frame.id !== this.frame) this.heat = null;
    const heat = header.shown.heat !== this.heatAddress ? header.shown.heat : "";
    this.heatAddress = header.shown.heat;
    this.overlays = header.shown.overlays;
    this.mark = header.shown.mark;
    this.reason = header.shown.reason;
    this.frame = header.frame.id;
    this.told = "live";
    this.since = Date.now();
    if (heat) void this.loadHeat(heat, this.frame);
    this.element.querySelector(".tile-picture > p")?.remove();
    this.draw();
    const words = this.element.querySelector("[data-words]");
    if (words) become(words, /** @type {Element} */ (parsed(header.shown.html).firstElementChild));
    this.frameBox.setAttribute("href", `/frames/${this.frame}`);
    this.tick();
  }

  /** What the server says of this camera. @param {{state: string, since: string | null}} status */
  hear(status) {
    // A picture that comes is drawn with its own mark, also where it is dark or blurred.
    this.told = status.state === "no signal" || status.state === "never" ? status.state : "live";
    if (status.since) this.since = new Date(status.since).getTime();
  }

  draw() {
    const { context, size } = prepareCanvas(this.canvas);
    if (!this.picture || !size.width) return;
    if (this.large) this.frameBox.style.aspectRatio = `${this.size.width} / ${this.size.height}`;
    const place = fit(this.size, size);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, place.x, place.y, place.width, place.height);
    if (this.heat) context.drawImage(this.heat, place.x, place.y, place.width, place.height);
    for (const overlay of this.overlays) drawOverlay(context, place, overlay, this.size);
  }

  /** Twice a second: a frozen picture must not look like a healthy line. @param {number} silence_s */
  tick(silence_s = this.silence_s) {
    this.silence_s = silence_s;
    const lost = silence_s >= SILENT_S;
    const quiet = this.told === "never" ? "never" : lost ? "no signal" : this.told;
    const since_s = lost && this.told === "live" ? silence_s : (Date.now() - this.since) / 1000;
    this.state = quiet;
    const word = quiet === "never" ? this.silent.never : `${this.silent[quiet]} ${span(since_s)}`;
    const mark = quiet === "live" ? this.mark : { shape: "struck", tone: "warn", word };
    this.element.dataset.state = quiet;
    this.element.dataset.tone = quiet === "live" ? mark.tone : "";
    const shown = /** @type {HTMLElement} */ (this.element.querySelector("header .state"));
    shown.dataset.shape = mark.shape;
    shown.dataset.tone = mark.tone;
    put(shown, mark.word);
    put(this.element.querySelector("header .reason"), quiet === "live" ? this.reason : (this.element.dataset.cost ?? ""));
  }
}
