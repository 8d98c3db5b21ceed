// @ts-check
/** The Twin page: the socket's state as a scene, the server's words for it as tables and panels. */
import { ask, problemOf } from "./forms.js";
import { Live } from "./live.js";
import { applyPatch } from "./patch.js";
import { tellTimes } from "./page.js";
import { fragment, takeOver } from "./parts.js";
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
const PART_MS = 150; // at most so often are tables and panels read
const SENSOR_MS = 5000; // a sensor that falls silent changes no state
let stale = false;
let reading = false;

function show() {
  stale = true;
  void readParts();
  if (chosen) void evidence?.show(state, chosen);
  showScene();
}

/** Tables and panels are read anew after a change, one request after the other. */
async function readParts() {
  if (reading) return;
  reading = true;
  while (stale) {
    stale = false;
    const fresh = await fragment("/twin?part=1");
    if (fresh) takeOver(root, fresh);
    tellTimes();
    showScene();
    await new Promise((done) => setTimeout(done, PART_MS));
  }
  reading = false;
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
    said.textContent = "Order placed.";
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
  live.tellLost();
  showScene();
}

/** @type {Live} */
let live;
if (root) {
  evidence = new Evidence(/** @type {HTMLElement} */ (root.querySelector("[data-evidence]")));
  live = new Live({ cameras: [], twin: true, runs: [] }, { twin: hear });
  for (const found of root.querySelectorAll("[data-order]")) {
    found.addEventListener("click", () => void order(/** @type {HTMLButtonElement} */ (found)));
  }
  root.addEventListener("click", (event) => {
    const found = /** @type {HTMLElement} */ (event.target).closest("[data-select]");
    if (found) choose(found.getAttribute("data-select") ?? "");
  });
  for (const event of ["lineside:theme", "change"]) {
    const where = event === "change" ? matchMedia("(prefers-color-scheme: dark)") : window;
    where.addEventListener(event, () => scene?.repaint());
  }
  void openScene();
  setInterval(tick, 1000);
  setInterval(() => document.hidden || live.silence() > 2 || show(), SENSOR_MS);
}
