// @ts-check
/** Counts: stepping through the pictures on offer, uploading one, where the package looked. */
import { make } from "./dom.js";
import { ask, problemOf, showProblem } from "./forms.js";

/** The name before or after this one; the ends stay. @param {string[]} names @param {string} at @param {number} step */
export function stepped(names, at, step) {
  const place = names.indexOf(at);
  if (place < 0) return names[0] ?? at;
  return names[Math.min(names.length - 1, Math.max(0, place + step))];
}

function wireOffer() {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-offer]"));
  if (!form) return;
  const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("picture"));
  const names = [...form.querySelectorAll("datalist option")].map((one) => /** @type {HTMLOptionElement} */ (one).value);
  for (const found of form.querySelectorAll("[data-step]")) {
    const button = /** @type {HTMLButtonElement} */ (found);
    button.addEventListener("click", () => (field.value = stepped(names, field.value, Number(button.dataset.step))));
  }
  form.querySelector("select[data-function]")?.addEventListener("change", (event) => {
    const chosen = /** @type {HTMLSelectElement} */ (event.target).value;
    location.assign(`/count?function=${encodeURIComponent(chosen)}`);
  });
}

/** @param {HTMLFormElement} form */
async function send(form) {
  form.querySelector(".problem")?.remove();
  const file = /** @type {HTMLInputElement} */ (form.elements.namedItem("picture")).files?.[0];
  if (!file) return;
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  button.disabled = true;
  const address = `/api/v1/counts/uploaded?function=${encodeURIComponent(form.dataset.function ?? "")}`;
  const headers = { "content-type": file.type || "application/octet-stream" };
  const response = await ask(address, { method: "POST", body: file, headers });
  button.disabled = false;
  if (!response.ok) return showProblem(form, await problemOf(response));
  location.assign(`/count/${encodeURIComponent((await response.json()).id)}`);
}

function wireUpload() {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-upload]"));
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    void send(form);
  });
}

/** The map is computed when it is first asked for; the picture stays below it. */
function wireActivation() {
  const box = /** @type {HTMLInputElement | null} */ (document.querySelector("[data-activation]"));
  const figure = box?.closest("section")?.querySelector("figure");
  box?.addEventListener("change", () => {
    const shown = figure?.querySelector("img.heat");
    if (shown) shown.toggleAttribute("hidden", !box.checked);
    else figure?.append(make("img", { class: "heat", src: box.dataset.activation ?? "", alt: "Activation map" }));
  });
}

if (typeof document !== "undefined") {
  wireOffer();
  wireUpload();
  wireActivation();
}
