// @ts-check
/** The Twin page: one state, told by the socket, shown as scene, tables and panels. */
import { make } from "./dom.js";
import { span, tail } from "./format.js";
import { ask, problemOf } from "./forms.js";
import { Live } from "./live.js";
import { applyPatch } from "./patch.js";
import { layOver } from "./picture.js";
import { tellTimes } from "./page.js";
import { facts, showDifferences, showOrders, showSensors, showStock, showTables } from "./twin_panels.js";
import { Labels } from "./twin_labels.js";
import { sceneOf } from "./twin_model.js";
import { Scene } from "./twin_scene.js";

const root = /** @type {HTMLElement} */ (document.querySelector("[data-twin]"));
const plan = JSON.parse(root?.dataset.scene ?? "null");
let state = JSON.parse(root?.dataset.twin ?? "null");
let chosen = "";
/** @type {Scene | null} */
let scene = null;
/** @type {Labels | null} */
let labels = null;
let shown = "";

function show() {
  showTables(root, state);
  showStock(root, state);
  showSensors(root, state);
  showOrders(root, state);
  showDifferences(root, state);
  if (chosen) void showEvidence();
  showScene();
  tellTimes();
}

/** Drawn only when the scene differs from the one that stands there; ages are told once a second. */
function showScene() {
  if (!scene || !labels) return;
  const view = sceneOf(state, plan, Date.now());
  const text = JSON.stringify(view);
  if (text !== shown) scene.show(view);
  shown = text;
  labels.say(view, state, Date.now());
}

/** @param {string} key */
function choose(key) {
  chosen = chosen === key ? "" : key;
  labels?.press(chosen);
  void showEvidence();
}

let evidenceFor = "";
async function showEvidence() {
  const panel = /** @type {HTMLElement} */ (root.querySelector("[data-evidence]"));
  const [kind, id] = chosen.split(":");
  const evidence = kind === "slot" ? state.slots[id].evidence : kind ? state.stations[id].evidence : null;
  const mark = `${chosen} ${evidence?.event ?? ""} ${state.slots[id]?.reported ?? ""}`;
  if (mark === evidenceFor) return;
  evidenceFor = mark;
  if (!evidence) {
    const say = "Choose a place or a station, in the scene or in a table, to see what its state rests on.";
    return panel.replaceChildren(make("h2", {}, "Evidence"), make("p", { class: "note" }, say));
  }
  const name = kind === "station" ? state.stations[id].name : `place ${id}`;
  const list = make("dl", { class: "facts-list" });
  for (const [term, value] of facts(state, chosen)) list.append(make("dt", {}, term), make("dd", {}, value));
  const children = [make("h2", {}, `Evidence: ${name}`)];
  if (evidence.frame) children.push(await picture(evidence.frame));
  if (mark === evidenceFor) panel.replaceChildren(...children, list);
  tellTimes();
}

/** The very picture the value rests on, with what was said of it. @param {string} frame */
async function picture(frame) {
  const address = `/api/v1/frames/${encodeURIComponent(frame)}`;
  const image = make("img", { src: `${address}/picture`, alt: `Picture ${tail(frame)}`, width: "320", height: "240" });
  const figure = make("figure", { class: "picture" }, image, make("canvas"));
  const response = await ask(address);
  if (response.ok) {
    const found = (await response.json()).predictions.find(
      (/** @type {any} */ one) => one.event.data.inspection === plan.inspection,
    );
    layOver(figure, found?.event.data ?? null, plan.plan);
  }
  return make("a", { href: `/frames/${encodeURIComponent(frame)}`, "aria-label": "Open the picture" }, figure);
}

/** @param {HTMLButtonElement} button */
async function order(button) {
  const said = /** @type {HTMLElement} */ (root.querySelector("[data-order-said]"));
  button.disabled = true;
  said.textContent = "";
  const response = await ask("/api/v1/orders", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ colour: button.dataset.order }),
  });
  button.disabled = false;
  if (response.ok) {
    said.textContent = `Order ${tail((await response.json()).id)} placed.`;
    return;
  }
  const { title, text } = await problemOf(response.clone());
  const body = await response.json().catch(() => ({}));
  const alert = /** @type {HTMLDialogElement} */ (document.querySelector("[data-alert]"));
  const place = /** @type {HTMLElement} */ (alert.querySelector("[data-alert-text]"));
  place.textContent = body.detail || text || title;
  alert.showModal();
}

/** @param {any} header */
function hear(header) {
  if (header.snapshot) state = header.snapshot;
  else if (header.base !== state.revision) return live.resubscribe();
  else {
    try {
      state = applyPatch(state, header.patch);
    } catch {
      return live.resubscribe();
    }
  }
  show();
}

async function openScene() {
  const element = /** @type {HTMLElement} */ (root.querySelector("[data-canvas]"));
  element.hidden = false;
  try {
    const three = await import(root.dataset.vendor ?? "");
    scene = new Scene(three, element, plan);
    labels = new Labels(scene, element, plan, choose);
    scene.canvas.addEventListener("webglcontextlost", () => (element.hidden = true));
    showScene();
  } catch {
    element.hidden = true; // no WebGL here: the tables below say the same
  }
}

function tick() {
  const lost = /** @type {HTMLElement} */ (document.querySelector("[data-lost]"));
  lost.hidden = live.silence() < 2;
  lost.textContent = `The hub has said nothing for ${span(live.silence())}. What stands here is old.`;
  showScene();
}

/** @type {Live} */
let live;
if (root) {
  live = new Live({ cameras: [], twin: true, runs: [] }, { twin: hear });
  for (const found of root.querySelectorAll("[data-order]")) {
    found.addEventListener("click", () => void order(/** @type {HTMLButtonElement} */ (found)));
  }
  for (const found of root.querySelectorAll("[data-select]")) {
    found.addEventListener("click", () => choose(/** @type {HTMLElement} */ (found).dataset.select ?? ""));
  }
  for (const event of ["lineside:theme", "change"]) {
    const where = event === "change" ? matchMedia("(prefers-color-scheme: dark)") : window;
    where.addEventListener(event, () => scene?.repaint());
  }
  show();
  void openScene();
  setInterval(tick, 1000);
}
