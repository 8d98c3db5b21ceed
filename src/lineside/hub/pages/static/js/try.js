// @ts-check
/** Try a picture: it goes to the hub, the answer stands on it, nothing is stored. */
import { make } from "./dom.js";
import { ask, problemOf, showProblem } from "./forms.js";
import { parsed } from "./parts.js";
import { layOver } from "./picture.js";

const form = /** @type {HTMLFormElement | null} */ (document.querySelector("[data-try-form]"));
const result = /** @type {HTMLElement} */ (document.querySelector("[data-result]"));

/** @param {string} answer as the server rendered it @param {string} source of the picture */
function show(answer, source) {
  result.replaceChildren(parsed(answer));
  const figure = /** @type {HTMLElement} */ (result.querySelector("figure"));
  const image = /** @type {HTMLImageElement} */ (figure.querySelector("img"));
  image.src = source;
  layOver(figure);
  result.querySelector("[data-heat-of]")?.addEventListener("change", (event) => {
    figure.querySelector("img.heat")?.remove();
    const layer = /** @type {HTMLSelectElement} */ (event.target).selectedOptions[0].dataset.layer;
    if (layer) image.after(make("img", { class: "heat", src: layer, alt: "Where the network looked" }));
  });
}

async function send() {
  if (!form) return;
  form.querySelector(".problem")?.remove();
  const select = /** @type {HTMLSelectElement} */ (form.elements.namedItem("package"));
  const file = /** @type {HTMLInputElement} */ (form.elements.namedItem("picture")).files?.[0];
  if (!file) return;
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  button.disabled = true;
  const headers = { "content-type": file.type || "application/octet-stream" };
  const response = await ask(`/try/${encodeURIComponent(select.value)}`, { method: "POST", body: file, headers });
  button.disabled = false;
  if (!response.ok) return showProblem(form, await problemOf(response));
  show(await response.text(), URL.createObjectURL(file));
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  void send();
});
