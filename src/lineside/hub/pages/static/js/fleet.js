// @ts-check
/** The fleet's list: state and age of the rows that are shown, as the hub hears of them. */
import { fill, mark, when } from "./dom.js";
import { Live } from "./live.js";

const table = /** @type {HTMLElement | null} */ (document.querySelector("[data-marks]"));
/** @type {Record<string, {shape: string, tone: string, word: string}>} */
const marks = JSON.parse(table?.dataset.marks ?? "{}");
const rows = new Map(
  [...document.querySelectorAll("[data-device]")].map((row) => [/** @type {HTMLElement} */ (row).dataset.device ?? "", row]),
);

/** @param {{id: string, state: string, at: string | null}} device */
function show({ id, state, at }) {
  const row = rows.get(id);
  const said = marks[state];
  // A device that was revoked stays so here, whatever it says.
  if (!row || !said || row.querySelector("[data-state]")?.textContent?.trim() === marks.revoked?.word) return;
  fill(row.querySelector("[data-state]"), mark(said));
  fill(row.querySelector("[data-heard]"), when(at, "age"));
}

if (rows.size) {
  new Live(
    { devices: [...rows.keys()] },
    {
      status: (header) => header.devices.forEach(show),
    },
  );
}
