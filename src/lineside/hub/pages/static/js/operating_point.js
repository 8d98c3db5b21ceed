// @ts-check
/** Limits that move: the server's preview at once, and the proposal of them as a version. */
import { ask, problemOf, showProblem } from "./forms.js";
import { parsed } from "./parts.js";

const WAIT_MS = 120;
/** Fields that change no preview. */
const UNSEEN = ["reason", "waves"];

/** @param {HTMLFormElement} form @param {string} name */
function field(form, name) {
  return /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
}

/** What a field holds: a limit is shown rounded, and kept exactly until somebody changes it. @param {HTMLInputElement} input */
function exact(input) {
  return input.value === input.dataset.shown ? (input.dataset.exact ?? "") : input.value;
}

/** The query of the preview, without the reason. @param {HTMLFormElement} form */
export function queryOf(form) {
  const fields = [...new FormData(form)].filter(([name, value]) => !UNSEEN.includes(name) && value !== "");
  return new URLSearchParams(fields.map(([name]) => [name, exact(field(form, name))]));
}

/**
 * The limits to propose: those in force, with the ones of the form in their place.
 * @param {{name: string, low: number, high: number}[]} used @param {{name: string, low: number, high: number}} chosen
 */
export function limitsOf(used, chosen) {
  return [...used.filter((one) => one.name !== chosen.name), chosen];
}

/** A slider and its number field show the same; the other limit gives way. @param {HTMLFormElement} form @param {HTMLInputElement} moved */
function follow(form, moved) {
  const name = moved.dataset.of ?? moved.name;
  if (name !== "low" && name !== "high") return;
  const value = Number(moved.value);
  set(form, name, value, moved);
  const other = name === "low" ? "high" : "low";
  const there = Number(exact(field(form, other)));
  if ("single" in form.dataset || (name === "low" ? there < value : there > value)) set(form, other, value);
}

/** @param {HTMLFormElement} form @param {string} name @param {number} value @param {HTMLInputElement} [but] */
function set(form, name, value, but) {
  const slider = /** @type {HTMLInputElement | null} */ (form.querySelector(`[data-of="${name}"]`));
  if (slider && slider !== but) slider.value = String(value);
  const box = field(form, name);
  if (box === but) return;
  box.value = String(Number(value.toPrecision(4)));
  [box.dataset.shown, box.dataset.exact] = [box.value, String(value)];
}

/** @param {HTMLFormElement} form @param {Element} place */
function wire(form, place) {
  let timer = 0;
  let newest = 0;
  const show = async () => {
    const asked = ++newest;
    form.querySelector(".problem")?.remove();
    const response = await ask(`${form.dataset.preview}?${queryOf(form)}`);
    if (asked !== newest) return;
    if (response.ok) place.replaceChildren(parsed(await response.text()));
    else showProblem(form, await problemOf(response));
  };
  form.addEventListener("input", (event) => {
    const moved = /** @type {HTMLInputElement} */ (event.target);
    if (UNSEEN.includes(moved.name)) return;
    follow(form, moved);
    clearTimeout(timer);
    timer = window.setTimeout(show, WAIT_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void propose(form);
  });
  place.addEventListener("click", (event) => {
    const button = /** @type {HTMLElement} */ (event.target).closest("button[data-low]");
    if (!(button instanceof HTMLElement)) return;
    for (const name of ["low", "high"]) set(form, name, Number(button.dataset[name]));
    void show();
  });
}

/** @param {HTMLFormElement} form */
async function propose(form) {
  const value = (/** @type {string} */ name) => Number(exact(field(form, name)));
  const chosen = { name: field(form, "name").value, low: value("low"), high: value("high") };
  const body = {
    limits: limitsOf(JSON.parse(form.dataset.limits ?? "[]"), chosen),
    package: form.dataset.package,
    reason: field(form, "reason").value,
    waves: field(form, "waves").checked,
    costs: { good_rejected: value("good_rejected"), bad_passed: value("bad_passed"), review: value("review") },
  };
  const headers = { "content-type": "application/json" };
  const response = await ask(form.dataset.point ?? "", { method: "POST", headers, body: JSON.stringify(body) });
  if (response.ok) location.assign(form.dataset.page ?? location.pathname);
  else showProblem(form, await problemOf(response));
}

if (typeof document !== "undefined") {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-point]"));
  const place = document.querySelector("[data-effect]");
  if (form && place) wire(form, place);
}
