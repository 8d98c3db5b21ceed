// @ts-check
/** The Lines page and a camera's own page: tiles fed by one socket, one sentence about all. */
import { put } from "./dom.js";
import { Live } from "./live.js";
import { liveParts, showPart } from "./parts.js";
import { wireFilters } from "./pictures.js";
import { Tile } from "./tile.js";

const elements = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".tile"));
const tiles = new Map([...elements].map((element) => [element.dataset.camera ?? "", new Tile(element)]));
const sentence = /** @type {HTMLElement | null} */ (document.querySelector("[data-summary]"));
let summary = sentence?.textContent ?? "";

const image = [...tiles.values()].some((tile) => tile.large) ? "original" : "tile";
const live = new Live(
  { cameras: [...tiles.keys()], image, parts: liveParts() },
  {
    part: (header) => showPart(/** @type {{href: string, html: string}} */ (header)),
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

const pick = /** @type {HTMLFormElement | null} */ (document.querySelector("#lines-pick"));
if (pick) wireFilters(pick);
tick();
setInterval(tick, 500);
