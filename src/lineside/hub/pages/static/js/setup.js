// @ts-check
/**
 * Forms of the plant file: only changed fields are sent, as one edit of one entry. A fault is shown
 * at the field that it speaks of; every other one below the form. `data-entry` names the text field
 * elsewhere that holds the entry, `data-values` what carries the values, as the regions' page does.
 */
import { make } from "./dom.js";
import { ask, showProblem } from "./forms.js";
import { clearFaults, showFaults } from "./forms_said.js";
import { faultLines } from "./rule_try.js";
import { figuresOf } from "./sharpness.js";

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Field */

/** The value of a field as JSON; null for an empty one, which takes the key away; `[]` is a list of none. @param {Field} field */
export function valueOf(field) {
  const text = field.value.trim();
  if (text === "") return null;
  const kind = field.dataset.kind ?? "text";
  if (kind === "yes") return text === "true";
  if (kind === "words") return text === "[]" ? [] : text.split(",").map((one) => one.trim()).filter(Boolean);
  if (kind === "pairs") return pairsOf(text);
  return kind === "number" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** `a = b, c = d=e` as names with what they stand for; the field's pattern refuses a part without `=`. @param {string} text */
export function pairsOf(text) {
  const parts = text.split(",").filter((one) => one.trim()).map((one) => one.split("="));
  return Object.fromEntries(parts.map(([name, ...says]) => [name.trim(), says.join("=").trim()]));
}

/** The key of the entry that a fault's path speaks of: `$.camera[2].trigger.on` is `trigger.on`. @param {string} path */
export function keyOf(path) {
  return path.replace(/^\$(\.\w+(\[\d+\])?)?\.?/, "").replace(/\[\d+\].*$/, "");
}

/** A field of one line leaves out the line breaks of its text, which is no change. @param {Field} field */
function isChanged(field) {
  if (field instanceof HTMLSelectElement) return [...field.options].some((one) => one.selected !== one.defaultSelected) && field.value !== ([...field.options].find((one) => one.defaultSelected)?.value ?? "");
  return field.value !== field.defaultValue.replace(/[\r\n]/g, "");
}

/** The rows of a table as records, without those that were emptied; null where none is left. @param {Element} table */
export function rowsOf(table) {
  const cells = (/** @type {Element} */ row) => /** @type {Field[]} */ ([...row.querySelectorAll("[data-key]")]);
  const rows = [...table.querySelectorAll("tbody tr")].map((row) => cells(row).map((one) => [one.dataset.key ?? "", valueOf(one)]));
  const full = rows.map((row) => row.filter(([, value]) => value !== null)).filter((row) => row.length);
  return full.length ? full.map((row) => Object.fromEntries(row)) : null;
}

/** @param {HTMLFormElement} form @param {boolean} remove */
function edit(form, remove) {
  const fields = /** @type {Field[]} */ ([...form.elements].filter((one) => "name" in one && one.name && !(one instanceof HTMLButtonElement)));
  const whole = Object.fromEntries(fields.filter((one) => one.dataset.whole !== undefined || one instanceof HTMLTextAreaElement).map((one) => [one.name, one.value]));
  const about = { section: form.dataset.section ?? "", id: form.dataset.id ?? "", nth: Number(form.dataset.nth ?? 0), base: Number(form.dataset.base ?? 0) };
  if (remove) return { ...about, reason: whole.reason, remove: true };
  const drawn = /** @type {HTMLElement | null} */ (document.querySelector(form.dataset.values ?? ":not(*)"));
  if (drawn) {
    const named = fields.filter((one) => one.dataset.whole === undefined).map((one) => [one.name, valueOf(one)]);
    return { ...about, ...whole, values: { ...Object.fromEntries(named), ...JSON.parse(drawn.dataset.values ?? "{}") } };
  }
  const elsewhere = /** @type {HTMLTextAreaElement | null} */ (document.querySelector(form.dataset.entry ?? ":not(*)"));
  if (elsewhere) return { ...about, ...whole, entry: elsewhere.value };
  if ("entry" in whole || "text" in whole) return { ...about, ...whole };
  const changed = fields.filter((one) => one.dataset.whole === undefined && isChanged(one));
  const tables = /** @type {HTMLElement[]} */ ([...form.querySelectorAll("[data-rows]")]).filter((one) => /** @type {Field[]} */ ([...one.querySelectorAll("[data-key]")]).some(isChanged));
  const rows = tables.map((one) => [one.dataset.rows, rowsOf(one)]);
  return { ...about, ...whole, values: Object.fromEntries([...changed.map((one) => [one.name, valueOf(one)]), ...rows]) };
}

/** @param {HTMLFormElement} form @param {boolean} remove */
async function send(form, remove) {
  clearFaults(form);
  const response = await ask("/api/v1/plant", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(edit(form, remove)),
  });
  if (response.ok) return form.dataset.next ? location.assign(form.dataset.next) : location.reload();
  const problem = await response.json().catch(() => ({ title: response.statusText }));
  const others = showFaults(form, problem.faults ?? [], keyOf);
  if (others.length || !problem.faults?.length) showProblem(form, { title: `Not saved: ${problem.title}`, text: faultLines({ ...problem, faults: others }).join(" ") });
  /** @type {HTMLElement | null} */ (form.querySelector("[aria-invalid]"))?.focus();
}

/** Focus and exposure of each newest picture, beside it. @param {HTMLImageElement} image */
function showFigures(image) {
  const place = /** @type {HTMLElement | null} */ (image.closest("[data-test-shown], details")?.querySelector("[data-figures]"));
  const canvas = document.createElement("canvas");
  const width = (canvas.width = Math.min(640, image.naturalWidth));
  const height = (canvas.height = Math.round((width * image.naturalHeight) / image.naturalWidth));
  const context = canvas.getContext("2d");
  if (!context || !place) return;
  context.drawImage(image, 0, 0, width, height);
  const found = figuresOf(context.getImageData(0, 0, width, height));
  place.replaceChildren(...found.map((one) => make("div", {}, make("dt", {}, one.name), make("dd", {}, make("b", {}, one.value), make("small", {}, one.meaning)))));
  place.hidden = false;
}

/** A picture of the source that stands in the form, with its figures. @param {HTMLButtonElement} button */
async function testCamera(button) {
  const form = /** @type {HTMLFormElement} */ (button.form);
  const said = /** @type {HTMLElement} */ (form.querySelector("[data-test-said]"));
  const shown = /** @type {HTMLElement} */ (form.querySelector("[data-test-shown]"));
  const source = /** @type {HTMLInputElement} */ (form.elements.namedItem("source")).value;
  button.disabled = true;
  said.textContent = "Waiting for a picture …";
  const response = await ask(button.dataset.test ?? "", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ source, camera: form.dataset.id ?? "" }),
  });
  button.disabled = false;
  shown.hidden = !response.ok;
  said.textContent = response.ok ? "" : faultLines(await response.json().catch(() => ({ detail: response.statusText }))).join(" ");
  const image = /** @type {HTMLImageElement} */ (shown.querySelector("img"));
  image.onload = () => showFigures(image);
  if (response.ok) image.src = URL.createObjectURL(await response.blob());
}

if (typeof document !== "undefined") {
  for (const form of document.querySelectorAll("form[data-asks='/api/v1/plant']")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const button = /** @type {SubmitEvent} */ (event).submitter;
      void send(/** @type {HTMLFormElement} */ (form), button?.hasAttribute("data-remove") ?? false);
    });
  }
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("button[data-test]"))) {
    button.addEventListener("click", () => void testCamera(button));
  }
  for (const image of /** @type {NodeListOf<HTMLImageElement>} */ (document.querySelectorAll("img[data-sharpness]"))) {
    image.addEventListener("load", () => showFigures(image));
    if (image.complete && image.naturalWidth) showFigures(image);
  }
}
