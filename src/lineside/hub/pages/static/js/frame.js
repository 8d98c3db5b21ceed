// @ts-check
/** A frame's page: answers on the picture, where the network looked, and answers that are awaited. */
import { ask } from "./forms.js";
import { heatOver, wirePictures } from "./picture.js";

wirePictures();

const choice = /** @type {HTMLSelectElement | null} */ (document.querySelector("[data-heat]"));
const said = document.querySelector("[data-heat-said]");
const figure = /** @type {HTMLElement | null} */ (document.querySelector("[data-overlay]"));

async function showHeat() {
  if (!choice || !figure) return;
  const chosen = choice.selectedOptions[0];
  const drawn = /** @type {HTMLElement | null} */ (chosen.closest("optgroup"))?.dataset.drawn;
  if (drawn && drawn !== figure.dataset.overlay) {
    figure.dataset.overlay = drawn;
    figure.dispatchEvent(new Event("overlay"));
  }
  const query = new URLSearchParams({ label: choice.value, package: chosen.dataset.package ?? "" });
  const address = choice.value && `${choice.dataset.heat}?${query}`;
  await heatOver(figure, address, (text) => said && (said.textContent = text), choice.value);
}

choice?.addEventListener("change", () => void showHeat());
if (choice?.value) void showHeat(); // chosen before this module was there, or kept by the browser

const AWAIT_MS = 1000;
const awaited = /** @type {HTMLElement | null} */ (document.querySelector("[data-awaited]"));
let begun = false; // somebody fills in the form, and loses nothing by an answer that comes
document.querySelector("main")?.addEventListener("input", () => (begun = true));

/** @param {HTMLElement} place asks for the frame until an answer came, or none will */
async function awaitAnswer(place) {
  const { awaited = "", awaitedS = "0", answers = "0" } = place.dataset;
  const ends = performance.now() + Number(awaitedS) * 1000;
  for (let there = false; !there && performance.now() < ends; ) {
    await new Promise((done) => setTimeout(done, AWAIT_MS));
    if (document.hidden) continue;
    const response = await ask(awaited);
    there = response.ok && (await response.json()).predictions.length > Number(answers);
  }
  if (!begun) return location.reload();
  const link = document.createElement("a");
  link.href = location.href;
  link.textContent = "This frame has new results. Reload the page.";
  place.replaceChildren(link);
}

if (awaited) void awaitAnswer(awaited);
