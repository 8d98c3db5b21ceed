// @ts-check
/**
 * Events of rules, live: the socket tells every second how the rules stand, and how far their events
 * go in the log. Where that has moved the list is read anew with the page's own filters; rows that
 * stand are left alone. While the reader is further down, new rows wait behind a button.
 */
import { drawAll } from "./chart.js";
import { put, when } from "./dom.js";
import { Live } from "./live.js";
import { fragment } from "./parts.js";
import { tellTimes } from "./time.js";

const MOST_ROWS = 50;
const SUMS_EVERY_MS = 10_000;
const SUMS_LATE_MS = 3000; // the sums follow the log

/** Ids that are fresh, in order. @param {string[]} fresh @param {string[]} standing */
export function news(fresh, standing) {
  const known = new Set(standing);
  return fresh.filter((one) => !known.has(one));
}

/** @param {Element[]} rows */
function ids(rows) {
  return rows.map((row) => row.getAttribute("data-event") ?? "");
}

class Said {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.position = -1; // something may have been said since the page was made
    this.due = this.reading = this.stale = this.summing = false;
    this.summedAt = this.movedAt = performance.now();
    this.note = /** @type {HTMLElement} */ (root.querySelector("[data-news]"));
    this.button = /** @type {HTMLButtonElement} */ (root.querySelector("[data-show-news]"));
    this.button.addEventListener("click", () => void this.catchUp());
  }

  /** @param {string} name @returns {HTMLElement} */
  part(name) {
    return /** @type {HTMLElement} */ (this.root.querySelector(`[data-part="${name}"]`));
  }

  rows() {
    return [...this.part("rows").querySelectorAll("[data-event]")];
  }

  /** Further down, or sideways: what stands under the eye is not moved. */
  get paused() {
    const list = this.part("rows").querySelector(".scroll");
    const top = this.part("rows").getBoundingClientRect().top;
    return top < 0 || Boolean(list && (list.scrollTop > 0 || list.scrollLeft > 0));
  }

  /** @param {import("./live.js").Header} status */
  hear({ rules, rule_events }) {
    for (const one of rules) this.count(one);
    if (rule_events !== this.position) [this.due, this.stale, this.movedAt] = [true, true, performance.now()];
    this.position = rule_events;
    if (this.due && !this.reading) void this.read();
    if (this.stale && !this.summing && performance.now() - this.summedAt > SUMS_EVERY_MS) void this.readSums();
  }

  /** @param {{id: string, texts: Record<string, string>, told_up_to: string | null}} rule */
  count({ id, texts, told_up_to }) {
    const list = this.root.querySelector(`[data-rule="${CSS.escape(id)}"]`);
    for (const [name, text] of Object.entries(texts)) put(list?.querySelector(`[data-figure="${name}"]`) ?? null, text);
    const told = list?.querySelector("[data-told]");
    const shown = told?.querySelector("time");
    if (shown && told_up_to) shown.setAttribute("datetime", told_up_to);
    else if (told && told_up_to) told.replaceChildren(when(told_up_to));
  }

  /** Read the list; what comes meanwhile, or a hub that does not answer, has it read once more. */
  async read() {
    this.due = false;
    if (this.root.hasAttribute("data-past")) return;
    this.reading = true;
    const fresh = await fragment(this.root.dataset.rows ?? "");
    this.reading = false;
    if (fresh) this.take(fresh);
    else this.due = true;
  }

  /** @param {DocumentFragment} fresh */
  take(fresh) {
    const found = [...fresh.querySelectorAll("[data-event]")];
    const added = news(ids(found), ids(this.rows()));
    const waits = added.length > 0 && this.rows().length > 0 && this.paused;
    this.note.hidden = !waits;
    if (waits) return put(this.button, `Show ${added.length === MOST_ROWS ? "many" : added.length} new`);
    const body = this.part("rows").querySelector("tbody");
    if (!body) {
      if (found.length) this.part("rows").replaceChildren(fresh);
    } else {
      body.prepend(...found.filter((row) => added.includes(row.getAttribute("data-event") ?? "")));
      for (const row of this.rows().slice(MOST_ROWS)) row.remove();
    }
    tellTimes();
  }

  async catchUp() {
    const list = this.part("rows").querySelector(".scroll");
    if (list) list.scrollTo(0, 0);
    this.root.querySelector("#said")?.scrollIntoView({ block: "start" });
    scrollBy(0, -1);
    this.note.hidden = true;
    const fresh = await fragment(this.root.dataset.rows ?? "");
    if (fresh) this.part("rows").replaceChildren(fresh);
    tellTimes();
    /** @type {HTMLElement | null} */ (this.part("rows").querySelector(".scroll"))?.focus({ preventScroll: true });
  }

  /** Read the sums; once more where what was said last may not have been in them. */
  async readSums() {
    this.stale = performance.now() - this.movedAt < SUMS_LATE_MS;
    this.summing = true;
    const fresh = await fragment(this.root.dataset.sums ?? "");
    this.summing = false;
    this.summedAt = performance.now();
    if (!fresh || fresh.querySelector(".adding")) this.stale = true;
    for (const name of fresh ? ["sums", "rules"] : []) {
      const part = this.part(name);
      const next = fresh?.querySelector(`[data-part="${name}"]`);
      if (part.contains(document.activeElement)) this.stale = true;
      if (!next || part.contains(document.activeElement)) continue;
      for (const [n, open] of [...part.querySelectorAll("details")].entries()) {
        next.querySelectorAll("details")[n]?.toggleAttribute("open", open.open);
      }
      part.replaceChildren(...next.childNodes);
    }
    tellTimes();
    drawAll(false);
  }
}

const root = typeof document === "undefined" ? null : /** @type {HTMLElement | null} */ (document.querySelector("[data-rule-events]"));
if (root) {
  const said = new Said(root);
  const live = new Live(
    { rules: JSON.parse(root.dataset.rules ?? "[]").slice(0, 200) },
    {
      status: (header) => said.hear(header),
    },
  );
  setInterval(() => live.tellLost(3), 500);
}
