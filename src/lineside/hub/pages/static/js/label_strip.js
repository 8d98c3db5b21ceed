// @ts-check
/** The pictures around the one that is labelled, and the way from one to the next. */
import { become, make } from "./dom.js";
import { ask } from "./forms.js";
import { fragment } from "./parts.js";

/** @typedef {{digest: string, name: string, thumbnail: string, state: string}} Row */
/** @typedef {{dataset: string, digest: string, state: string, step: string, rows: Row[], first: number, total: number, more: boolean}} Start */

const WORDS = { todo: "to do", labelled: "labelled", checked: "checked", discuss: "needs discussion" };
const SIDE = 4;
const NEAR_END = 5;
let asked = 0;

/** The counts in the page's header as the hub has them now; an older answer never replaces a newer one. */
export async function refreshHead() {
  asked += 1;
  const turn = asked;
  const [head, fresh] = [document.querySelector(".head"), (await fragment(location.href))?.querySelector(".head")];
  if (head && fresh && turn === asked) become(head, fresh);
}

export class Strip {
  /** @param {HTMLElement} root @param {Start} start @param {string} address of the samples @param {(digest: string) => void} open */
  constructor(root, start, address, open) {
    this.root = root;
    this.start = start;
    this.address = address;
    this.open = open;
    this.rows = start.rows;
  }

  /** @param {string | undefined} digest */
  place(digest) {
    return this.rows.findIndex((row) => row.digest === digest);
  }

  /** The state in which a picture was left. @param {string} digest @param {string} state */
  left(digest, state) {
    const row = this.rows[this.place(digest)];
    if (row) row.state = state;
  }

  /** @param {string} digest @param {string} state */
  show(digest, state) {
    const at = Math.max(0, this.place(digest));
    this.left(digest, state);
    const links = this.rows.slice(Math.max(0, at - SIDE), at + SIDE + 1).map((row) => this.link(row, digest));
    this.root.querySelector("[data-strip]")?.replaceChildren(...links);
    const where = this.root.querySelector("[data-where]");
    if (where) where.textContent = `${this.start.first + at + 1} of ${this.start.total}`;
    const next = this.rows[at + 1];
    if (next) void ask(`/datasets/${encodeURIComponent(this.start.dataset)}/pictures/${next.digest}`); // it is in the browser's cache when it is opened
  }

  /** @param {Row} row @param {string} digest */
  link(row, digest) {
    const image = make("img", { src: row.thumbnail, alt: `Picture ${row.name}`, width: "120", height: "90", loading: "lazy" });
    const link = make("a", { href: `?picture=${row.digest}` }, image, make("span", {}, WORDS[/** @type {keyof typeof WORDS} */ (row.state)] ?? row.state));
    if (row.digest === digest) link.setAttribute("aria-current", "true");
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this.open(row.digest);
    });
    return link;
  }

  /** The address of a picture on this page. @param {string} digest */
  hrefOf(digest) {
    return `?${new URLSearchParams({ ...(this.start.state && { state: this.start.state }), ...(this.start.step && { step: this.start.step }), picture: digest })}`;
  }

  /** The picture so many further on, if there is one. @param {string | undefined} digest @param {number} by */
  async neighbour(digest, by) {
    const at = this.place(digest);
    if (by > 0 && at >= this.rows.length - NEAR_END && this.start.more) await this.read();
    return this.rows[at + by] ?? null;
  }

  /** The first picture to do, behind the last one; "" where none is left or another state is shown. */
  async firstLeft() {
    if (!["", "todo"].includes(this.start.state)) return "";
    const answer = await ask(`${this.address}?state=todo&limit=1`);
    return answer.ok ? ((await answer.json()).items[0]?.digest ?? "") : "";
  }

  async read() {
    this.start.more = false;
    const query = new URLSearchParams({ state: this.start.state, after: this.rows.at(-1)?.digest ?? "", limit: "60" });
    const answer = await ask(`${this.address}?${query}`);
    if (!answer.ok) return;
    const page = await answer.json();
    this.rows.push(...page.items);
    this.start.more = page.next !== null;
  }
}
