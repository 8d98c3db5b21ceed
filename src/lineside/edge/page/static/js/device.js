// @ts-check
/** The device's page: its state every two seconds, its cameras as they go. */
import { CameraView } from "./camera.js";
import { fill, make, put } from "./dom.js";
import { follow } from "./feed.js";
import { hubFacts, models, recent, updates } from "./rows.js";
import { span, tellTimes } from "./time.js";

const ASK_MS = 2000;
const LOST_S = 6;

/** @typedef {Record<string, any>} Row */
/** @type {Map<string, CameraView>} */
const cameras = new Map();
let heardAt = performance.now();
let told = "";
/** @type {string[]} one sentence for each number of cameras that are silent */
let summaries = [];

/** @param {string} name @returns {HTMLElement} */
const part = (name) => /** @type {HTMLElement} */ (document.querySelector(`[data-${name}]`));

/** @param {[string, Node | string][]} rows */
const facts = (rows) => rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);

async function ask() {
  try {
    const answer = await fetch("/api/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) return location.reload();
    if (answer.ok) write(await answer.json());
  } catch {
    // told by how long ago it last answered
  }
  setTimeout(() => void ask(), ASK_MS);
}

/** @param {Row} said */
function write(said) {
  heardAt = performance.now();
  summaries = said.texts.summaries;
  writeCameras(said);
  fill(part("hub"), ...facts(hubFacts(said)));
  fill(part("counts"), ...facts(said.texts.counts));
  fill(part("updates"), ...updates(said));
  fill(part("models"), ...models(said));
  fill(part("recent"), ...recent(said));
  part("faults").hidden = !said.faults.length;
  fill(part("faults").querySelector("ul"), ...said.faults.map((/** @type {string} */ one) => make("li", { class: "bad" }, one)));
}

/** @param {Row} said */
function writeCameras(said) {
  for (const row of said.cameras) {
    if (cameras.has(row.id)) continue;
    const asked = said.inspections.filter((/** @type {Row} */ one) => one.camera === row.id);
    const view = new CameraView(row, asked);
    cameras.set(row.id, view);
    part("cameras").append(view.element);
  }
}

function tick() {
  for (const view of cameras.values()) view.tell(Date.now());
  tellTimes();
  const silence = (performance.now() - heardAt) / 1000;
  const lost = silence > LOST_S ? `The device has not answered for ${span(silence)}. This page is out of date.` : told;
  part("lost").hidden = !lost;
  put(part("lost"), lost);
  if (!cameras.size) return;
  const quiet = [...cameras.values()].filter((view) => view.element.dataset.state === "no signal").length;
  put(part("summary"), silence > LOST_S ? "does not answer" : summaries[quiet]);
}

await ask();
setInterval(tick, 500);
void follow(
  async (header, picture) => cameras.get(header.camera)?.show(header, picture),
  (sentence) => (told = sentence),
);
