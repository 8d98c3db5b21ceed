// @ts-check
/** The wall: every line by the live socket; it fits the screen, whatever its size. */
import { Live } from "./live.js";
import { liveParts, showPart } from "./parts.js";
import { layOver } from "./picture.js";
import { tellTimes } from "./time.js";

const LOST_S = 6;
const root = /** @type {HTMLElement} */ (document.querySelector("[data-live-part]"));
const live = new Live({ parts: liveParts() }, {
  part: (header) => {
    showPart(/** @type {{href: string, html: string}} */ (header));
    draw();
    tick();
  },
});

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
  root.querySelector("[data-wall-lost]")?.toggleAttribute("hidden", live.age() < LOST_S);
}

draw();
tick();
setInterval(tick, 1000);
