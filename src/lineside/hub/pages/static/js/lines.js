// @ts-check
/** The Lines page and a camera's own page: tiles fed by one socket, one sentence about all. */
import { summary } from "./answers.js";
import { put } from "./dom.js";
import { span } from "./format.js";
import { Live } from "./live.js";
import { Tile } from "./tile.js";

const elements = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".tile"));
const tiles = new Map([...elements].map((element) => [element.dataset.camera ?? "", new Tile(element)]));

const live = new Live(
  { cameras: [...tiles.keys()], twin: false, runs: [] },
  {
    frame: (header, picture) => tiles.get(header.camera)?.show(header, picture),
    status: (header) => {
      for (const camera of header.cameras) tiles.get(camera.id)?.hear(camera);
      showDevices(header);
    },
  },
);

/** @param {{reporting?: number, known?: number}} status */
function showDevices({ reporting, known }) {
  put(document.querySelector("[data-devices]"), `${reporting} of ${known} reporting`);
}

function tick() {
  const silence = live.silence();
  for (const tile of tiles.values()) tile.tick(silence);
  const sentence = document.querySelector("[data-summary]");
  const text = summary([...tiles.values()].map((tile) => tile.state));
  if (sentence && sentence.textContent !== text) sentence.textContent = text;
  const lost = /** @type {HTMLElement | null} */ (document.querySelector("[data-lost]"));
  if (!lost) return;
  lost.hidden = silence < 2;
  lost.textContent = `No update from the hub for ${span(silence)}. This page is out of date.`;
}

/** The strip of figures is read anew while someone looks and the hub answers. */
function readFigures() {
  if (!document.hidden && live.silence() < 2) document.body.dispatchEvent(new Event("figures"));
}

tick();
setInterval(tick, 500);
setInterval(readFigures, 2000);
