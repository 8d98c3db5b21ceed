// @ts-check
/** The Twin page: one state, told by the socket, shown as scene, tables and panels. */
import { span, tail } from "./format.js";
import { ask, problemOf } from "./forms.js";
import { Live } from "./live.js";
import { applyPatch } from "./patch.js";
import { tellTimes } from "./page.js";
import { showDifferences, showOrders, showSensors, showStock, showTables } from "./twin_panels.js";
import { Evidence } from "./twin_evidence.js";
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
/** @type {Evidence | null} */
let evidence = null;
let shown = "";

function show() {
  showTables(root, state);
  showStock(root, state);
  showSensors(root, state, plan.sensor_silent_s);
  showOrders(root, state);
  showDifferences(root, state);
  if (chosen) void evidence?.show(state, chosen);
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
  void evidence?.show(state, chosen);
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
  lost.textContent = `No update from the hub for ${span(live.silence())}. This page is out of date.`;
  showSensors(root, state, plan.sensor_silent_s);
  showScene();
}

/** @type {Live} */
let live;
if (root) {
  evidence = new Evidence(/** @type {HTMLElement} */ (root.querySelector("[data-evidence]")), plan);
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
