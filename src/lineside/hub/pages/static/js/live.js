// @ts-check
/**
 * One socket per page. A message is `u32 header length | JSON header | JPEG or nothing`, so a
 * picture and what is said of it never come apart. A frame is acknowledged once drawn: a slow or
 * hidden page gets fewer, never a backlog.
 */

import { put } from "./dom.js";
import { span } from "./time.js";

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 5000;
const decoder = new TextDecoder();

/** @typedef {Record<string, any>} Header */
/** @typedef {(header: Header, picture: Blob | null) => void | Promise<void>} Handler */

/** @param {ArrayBuffer} buffer @returns {{header: Header, picture: Blob | null}} */
export function readMessage(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(decoder.decode(new Uint8Array(buffer, 4, length)));
  const rest = buffer.byteLength - 4 - length;
  const picture = rest > 0 ? new Blob([new Uint8Array(buffer, 4 + length)]) : null;
  return { header, picture };
}

export class Live {
  /** @param {Header} subscription @param {Record<string, Handler>} handlers by `kind` */
  constructor(subscription, handlers) {
    this.subscription = subscription;
    this.handlers = handlers;
    this.heardAt = performance.now();
    /** @type {Map<string, number>} since when the hub cannot make a part of the page, by its address */
    this.stale = new Map();
    this.retryMs = RETRY_FIRST_MS;
    /** @type {WebSocket | null} */
    this.socket = null;
    document.addEventListener("visibilitychange", () => this.send({ visible: !document.hidden }));
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.retryMs = RETRY_FIRST_MS;
      this.send({ subscribe: this.subscription });
      if (document.hidden) this.send({ visible: false });
    };
    socket.onmessage = (event) => void this.hear(event.data);
    socket.onclose = (event) => this.closed(event.code);
    this.socket = socket;
  }

  /** @param {number} code */
  closed(code) {
    if (code === 4401) return location.reload(); // the session ended: the server says what to do
    setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(RETRY_MOST_MS, this.retryMs * 2);
  }

  /** @param {Header} message */
  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** @param {ArrayBuffer} data */
  async hear(data) {
    this.heardAt = performance.now();
    const { header, picture } = readMessage(data);
    if (header.kind === "hello") return this.greet(header);
    if (header.kind === "part" && !header.stale) this.stale.delete(header.href);
    else if (header.kind === "part" && !this.stale.has(header.href)) this.stale.set(header.href, this.heardAt);
    if (header.kind === "status") {
      put(document.querySelector("[data-reporting]"), String(header.reporting));
      put(document.querySelector("[data-known]"), String(header.known));
      put(document.querySelector("[data-live]"), String(header.live));
      put(document.querySelector("[data-cameras-known]"), String(header.declared));
      document.querySelector("[data-cameras]")?.classList.toggle("warn", header.live < header.declared);
      put(document.querySelector("[data-alerts-open]"), header.alerts < 100 ? String(header.alerts) : "99+");
      document.querySelector("[data-bell]")?.toggleAttribute("data-some", header.alerts > 0);
    }
    try {
      await this.handlers[header.kind]?.(header, picture);
    } finally {
      if (header.kind === "frame" && !document.hidden) this.send({ ack: header.round });
    }
  }

  /** Another version of the server: its pages and its modules belong together. @param {Header} h */
  greet(h) {
    const mine = document.documentElement.dataset.version;
    if (mine && h.server && h.server !== mine) location.reload();
  }

  /** Show for how long the page is out of date; true where it is too long. @param {number} [after_s] */
  tellLost(after_s = 2) {
    const lost = this.age() >= after_s;
    document.querySelector("[data-lost]")?.toggleAttribute("hidden", !lost);
    put(document.querySelector("[data-lost-for]"), span(this.age()));
    return lost;
  }

  /** Seconds since the server last said anything; its status comes every second. */
  silence() {
    return (performance.now() - this.heardAt) / 1000;
  }

  /** Seconds since the server last said anything, or could last make every part of the page. */
  age() {
    return (performance.now() - Math.min(this.heardAt, ...this.stale.values())) / 1000;
  }
}
