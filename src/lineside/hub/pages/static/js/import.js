// @ts-check
/** Drop a ZIP, files or folders: the hub says what it holds before anything is kept. */
import { make } from "./dom.js";
import { ask, problemOf, showProblem } from "./forms.js";
import { zipOf } from "./zip.js";

/** @typedef {{name: string, data: File}} Dropped */
/** @typedef {{dataset: string, digest: string, form: string, images: number, new: number, labels: Record<string, number>, kinds: Record<string, number>, parts: Record<string, number>, skipped: {where: string, reason: string}[], more: number, added: boolean}} Report */

const MOST_FILES = 65_000; // what a ZIP without extensions holds

/** Every file below what was dropped, with its path. @param {FileSystemEntry} entry @param {string} [folder] @returns {Promise<Dropped[]>} */
async function filesIn(entry, folder = "") {
  const name = folder + entry.name;
  if (entry.isFile) {
    const data = await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
    return [{ name, data }];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await filesIn(one, `${name}/`)));
  }
}

/** A report in words, one line for each kind. @param {Report} report */
export function linesOf(report) {
  const counts = (/** @type {Record<string, number>} */ of) => Object.entries(of).map(([name, count]) => `${name} ${count}`).join(", ");
  return [
    `${report.images} ${report.images === 1 ? "picture" : "pictures"} read as ${report.form}, ${report.new} of them new.`,
    ...(counts(report.labels) ? [`Labels: ${counts(report.labels)}.`] : ["No labels: the pictures are to do."]),
    ...(counts(report.kinds) ? [`With ${counts(report.kinds)}.`] : []),
    ...(counts(report.parts) ? [`Parts: ${counts(report.parts)}.`] : []),
    ...(report.skipped.length ? [`Left out or settled: ${report.skipped.length + report.more}.`] : []),
  ];
}

class Import {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.result = /** @type {HTMLElement} */ (root.querySelector("[data-report]"));
    const drop = /** @type {HTMLElement} */ (root.querySelector("[data-drop]"));
    drop.addEventListener("dragover", (event) => event.preventDefault());
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      void this.dropped(event);
    });
    for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (root.querySelectorAll("input[type=file]"))) {
      input.addEventListener("change", () => {
        const files = [...(input.files ?? [])].map((data) => ({ name: data.webkitRelativePath || data.name, data }));
        if (files.length) void this.look(files);
        input.value = "";
      });
    }
  }

  /** The name typed, or that of the page. */
  get dataset() {
    const field = /** @type {HTMLInputElement | null} */ (this.root.querySelector("[data-into]"));
    return field ? field.value.trim() : (this.root.dataset.import ?? "");
  }

  /** @param {DragEvent} event */
  async dropped(event) {
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry());
    const found = [];
    for (const entry of entries) if (entry) found.push(...(await filesIn(entry)));
    if (found.length) await this.look(found);
  }

  /** @param {Dropped[]} files */
  async look(files) {
    const field = /** @type {HTMLInputElement | null} */ (this.root.querySelector("[data-into]"));
    if (field && !field.reportValidity()) return;
    if (files.length > MOST_FILES) return this.tell(`More than ${MOST_FILES} files: make a ZIP of them, or use the command line.`);
    this.tell(`Reading ${files.length} ${files.length === 1 ? "file" : "files"} …`);
    const alone = files.length === 1 && files[0].name.toLowerCase().endsWith(".zip");
    const body = alone ? files[0].data : await zipOf(files);
    const report = await this.send(body, "");
    if (report) this.show(report, body);
  }

  /** @param {Blob} body @param {string} keep @returns {Promise<Report | null>} */
  async send(body, keep) {
    const query = keep ? `?keep=${encodeURIComponent(keep)}` : "";
    const address = `/api/v1/datasets/${encodeURIComponent(this.dataset)}/import${query}`;
    const response = await ask(address, { method: "POST", body, headers: { "content-type": "application/zip" } });
    if (response.ok) return response.json();
    this.result.replaceChildren();
    showProblem(this.result, await problemOf(response));
    return null;
  }

  /** @param {Report} report @param {Blob} body */
  show(report, body) {
    const keep = make("button", { type: "button", class: "main" }, `Keep ${report.images} ${report.images === 1 ? "picture" : "pictures"}`);
    const leave = make("button", { type: "button" }, "Discard");
    leave.addEventListener("click", () => this.tell("Nothing was kept."));
    keep.addEventListener("click", () => void this.keep(report, body));
    const skipped = report.skipped.map(({ where, reason }) => make("li", {}, `${where}: ${reason}`));
    const list = make("ul", { class: "import-skipped", tabindex: "0", "aria-label": "Left out or settled" }, ...skipped);
    const lines = linesOf(report).map((line) => make("p", {}, line));
    this.result.replaceChildren(...lines, ...(skipped.length ? [list] : []), make("div", { class: "row" }, keep, leave));
    keep.focus();
  }

  /** @param {Report} report @param {Blob} body */
  async keep(report, body) {
    this.tell("Keeping …");
    if (await this.send(body, report.digest)) location.assign(this.root.dataset.next ?? `/datasets/${encodeURIComponent(report.dataset)}`);
  }

  /** @param {string} text */
  tell(text) {
    this.result.replaceChildren(make("p", {}, text));
  }
}

const root = typeof document === "undefined" ? null : /** @type {HTMLElement | null} */ (document.querySelector("[data-import]"));
if (root) new Import(root);
