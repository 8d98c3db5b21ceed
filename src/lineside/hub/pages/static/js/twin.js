// @ts-check
/** The Twin page: the server's view of it as a scene, its words as tables and panels, now or at a time of the past. */
import { ask, problemOf } from "./forms.js";
import { Live } from "./live.js";
import { fragment, parsed, takeOver } from "./parts.js";
import { tellTimes } from "./time.js";
import { Evidence } from "./twin_evidence.js";
import { Labels } from "./twin_labels.js";
import { placesAt, timeOf } from "./twin_model.js";
import { wirePast } from "./twin_past.js";
import { Scene } from "./twin_scene.js";

const root = /** @type {HTMLElement} */ (document.querySelector("[data-twin]"));
const page = /** @type {HTMLElement} */ (document.querySelector("main"));
const past = /** @type {HTMLFormElement | null} */ (document.querySelector("[data-past]"));
const plan = JSON.parse(root?.dataset.scene ?? "null");
/** @type {import("./twin_model.js").SceneView} */
let view;
let at = past ? /** @type {HTMLInputElement} */ (past.elements.namedItem("at")).value : "";
let chosen = "";
/** @type {Scene | null} */
let scene = null;
/** @type {Labels | null} */
let labels = null;
/** @type {Evidence | null} */
let evidence = null;
let shown = "";
let stale = false;
let reading = false;

function readView() {
  view = JSON.parse(/** @type {HTMLElement} */ (page.querySelector("[data-view]")).dataset.view ?? "null");
}

/** Scene, tables and panels as the server made them. @param {ParentNode} fresh */
function show(fresh) {
  takeOver(page, fresh);
  readView();
  tellTimes();
  showScene();
  if (chosen) void evidence?.show(view, chosen, at);
}

/** Those of a time of the past, one request after the other, the newest choice last. */
async function showPast() {
  stale = true;
  if (reading) return;
  reading = true;
  while (stale) {
    stale = false;
    const fresh = await fragment(`/twin?part=1&at=${encodeURIComponent(at)}`);
    if (fresh) show(fresh);
  }
  reading = false;
}

/** Drawn only when the scene differs from the one that stands there; ages are told once a second. */
function showScene() {
  if (!scene || !labels) return;
  const now = timeOf(view);
  const places = placesAt(view, now);
  const drawn = { slots: places, stations: Object.values(view.stations), parts: view.parts };
  const text = JSON.stringify(drawn);
  if (text !== shown) scene.show(drawn);
  shown = text;
  labels.say(view, places, now);
}

/** @param {string} key */
function choose(key) {
  chosen = chosen === key ? "" : key;
  labels?.press(chosen);
  void evidence?.show(view, chosen, at);
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

/** @param {HTMLElement} element */
async function openScene(element) {
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

if (root) {
  readView();
  evidence = new Evidence(/** @type {HTMLElement} */ (root.querySelector("[data-evidence]")));
  const live = new Live({ parts: past ? [] : ["/twin"] }, { part: (header) => show(parsed(header.html)) });
  if (past) {
    wirePast(past, (time) => {
      at = time;
      void showPast();
    });
  }
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
  const element = /** @type {HTMLElement | null} */ (root.querySelector("[data-canvas]"));
  if (element) void openScene(element);
  setInterval(() => {
    live.tellLost();
    if (!past) showScene();
  }, 1000);
}
