// @ts-check
/** The Lines page and a camera's own page: tiles fed by one socket, one sentence about all. */
import { put } from "./dom.js";
import { Live } from "./live.js";
import { fragment, takeOver } from "./parts.js";
import { wireFilters } from "./pictures.js";
import { Tile } from "./tile.js";
import { tellTimes } from "./time.js";

const PANELS_MS = 10_000;

const elements = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".tile"));
const tiles = new Map([...elements].map((element) => [element.dataset.camera ?? "", new Tile(element)]));
const sentence = /** @type {HTMLElement | null} */ (document.querySelector("[data-summary]"));
let summary = sentence?.textContent ?? "";

const image = [...tiles.values()].some((tile) => tile.large) ? "original" : "tile";
const live = new Live(
  { cameras: [...tiles.keys()], image, twin: false, runs: [] },
  {
    frame: (header, picture) => tiles.get(header.camera)?.show(header, picture),
    status: (header) => {
      for (const camera of header.cameras) tiles.get(camera.id)?.hear(camera);
      summary = header.summary;
    },
  },
);

function tick() {
  for (const tile of tiles.values()) tile.tick(live.silence());
  put(sentence, live.tellLost() ? (sentence?.dataset.summary ?? "") : summary);
}

/** The strip of figures is read anew while someone looks and the hub answers. */
function readFigures() {
  if (!document.hidden && live.silence() < 2) document.body.dispatchEvent(new Event("figures"));
}

/** Rejects, reasons and trend. */
async function readPanels() {
  const panels = /** @type {HTMLElement | null} */ (document.querySelector("[data-panels]"));
  if (!panels || document.hidden || live.silence() >= 2) return;
  const fresh = await fragment(panels.dataset.panels ?? "");
  if (fresh) takeOver(panels, fresh);
  tellTimes();
}

const pick = /** @type {HTMLFormElement | null} */ (document.querySelector("#lines-pick"));
if (pick) wireFilters(pick);
tick();
setInterval(tick, 500);
setInterval(() => void readPanels(), PANELS_MS);
setInterval(readFigures, 2000);
