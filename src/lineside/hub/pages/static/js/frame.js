// @ts-check
/** A frame's page: answers on the picture, and on request where the network looked. */
import { problemOf, ask } from "./forms.js";
import { wirePictures } from "./picture.js";

wirePictures();

const choice = /** @type {HTMLSelectElement | null} */ (document.querySelector("[data-heat]"));
const said = document.querySelector("[data-heat-said]");
const figure = document.querySelector("[data-overlay]");

/** @param {string} text */
function say(text) {
  if (said) said.textContent = text;
}

async function showHeat() {
  figure?.querySelector("img.heat")?.remove();
  say("");
  if (!choice?.value) return;
  const asked = choice.value;
  say("Computing …");
  const response = await ask(`${choice.dataset.heat}?label=${encodeURIComponent(asked)}`);
  if (choice.value !== asked) return;
  if (!response.ok) {
    const { title, text } = await problemOf(response);
    return say(`${title}: ${text}`);
  }
  const image = document.createElement("img");
  image.className = "heat";
  image.alt = `Where the network looked for ${asked}`;
  image.src = URL.createObjectURL(await response.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  figure?.querySelector("img")?.after(image);
  say(`Brighter: looked at more for ${asked}.`);
}

choice?.addEventListener("change", () => void showHeat());
if (choice?.value) void showHeat(); // chosen before this module was there, or kept by the browser
