// @ts-check
/** The wall: every line read anew while the hub answers; it fits the screen, whatever its size. */
import { fragment, takeOver } from "./parts.js";
import { layOver } from "./picture.js";
import { tellTimes } from "./time.js";

const EVERY_MS = 2000;
const LOST_MS = 6000;
const root = /** @type {HTMLElement} */ (document.querySelector("[data-wall-lines]"));
let heardAt = performance.now();

/** @type {Map<HTMLElement, () => void>} what draws each picture with its answers */
const drawings = new Map();

function draw() {
  for (const figure of [...drawings.keys()]) if (!figure.isConnected) drawings.delete(figure);
  for (const found of root.querySelectorAll("[data-overlay]")) {
    const figure = /** @type {HTMLElement} */ (found);
    const again = drawings.get(figure);
    if (again) again();
    else drawings.set(figure, layOver(figure));
  }
}

function tick() {
  tellTimes(root);
  root.querySelector("[data-wall-lost]")?.toggleAttribute("hidden", performance.now() - heardAt < LOST_MS);
}

async function read() {
  const fresh = document.hidden ? null : await fragment(root.dataset.wallLines ?? "").catch(() => null);
  if (!fresh) return;
  heardAt = performance.now();
  takeOver(root, fresh);
  draw();
  tick();
}

draw();
tick();
setInterval(tick, 1000);
setInterval(() => void read(), EVERY_MS);
