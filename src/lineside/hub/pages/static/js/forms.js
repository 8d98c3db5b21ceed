// @ts-check
/**
 * Forms that send JSON to the API. `data-json="/api/v1/…"` is the address, `data-query` a query behind it; each named field is a
 * key (`shares.train` a key of the key `shares`), `data-type` says `number`, `moment` (left out where it is empty), `list` ("" adds none), `yes`, `no`, `windows`, `words` (by commas), `numbers` (`name = 1` by commas: keys of the key) or `answer`. On success the page goes to
 * `data-next` (`{id}` and other keys are filled from the answer, or from the form), or is read again; on refusal the problem's own
 * words stand in the form; so it does where nothing is ticked in a group that has `data-least`. `data-show` names a key of the answer that is shown once, below `data-show-words`.
 */

import { sayDone, showOnce, told } from "./forms_said.js";
import { windowsOf } from "./windows.js";

/** @param {HTMLFormElement} form @returns {Record<string, unknown>} */
export function readForm(form) {
  /** @type {Record<string, any>} */
  const body = {};
  for (const field of form.elements) {
    const input = /** @type {HTMLInputElement} */ (field);
    if (!input.name || input.disabled || input.type === "submit") continue;
    if ((input.type === "checkbox" || input.type === "radio") && !input.checked) continue;
    const kind = input.dataset.type ?? "text";
    if (kind === "answer") addAnswer(body, input);
    else if (kind === "no") body[input.name] = false;
    else if (input.value === "" && !["text", "words", "list"].includes(kind)) continue;
    else if (kind === "number") put(body, input.name, Number(input.value));
    else if (kind === "numbers") putNumbers(body, input);
    else if (kind === "yes") body[input.name] = true;
    else if (kind === "windows") body[input.name] = windowsOf(input.value);
    else if (kind === "words") body[input.name] = input.value.split(",").map((one) => one.trim()).filter(Boolean);
    else if (kind === "list") put(body, input.name, [...(input.name.split(".", 2).reduce((inside, key) => inside?.[key], body) ?? []), ...(input.value ? [input.value] : [])]);
    else put(body, input.name, input.value);
  }
  return body;
}

/** @param {Record<string, any>} body @param {string} name @param {unknown} value */
function put(body, name, value) {
  const [key, inner] = name.split(".", 2);
  if (inner === undefined) body[key] = value;
  else (body[key] ??= {})[inner] = value;
}

/** @param {Record<string, any>} body @param {HTMLInputElement} input */
function putNumbers(body, input) {
  for (const one of input.value.split(",").filter((text) => text.trim())) {
    const [name, value = ""] = one.split("=").map((text) => text.trim());
    put(body, `${input.name}.${name}`, value === "" ? value : Number(value));
  }
}

/**
 * A select that judges one region: its value names the label that holds, `data-known` all labels
 * the choice judges. "" is not judged.
 * @param {Record<string, any>} body @param {HTMLInputElement} input
 */
function addAnswer(body, input) {
  body.labels ??= [];
  body.known ??= [];
  if (input.value === "") return;
  body.known.push(...(input.dataset.known ?? "").split("\n").filter(Boolean));
  if (input.value !== "-") body.labels.push(input.value);
}

/** @param {Response} response @returns {Promise<{title: string, text: string}>} */
export async function problemOf(response) {
  try {
    const body = await response.json();
    const faults = (body.faults ?? []).map((/** @type {any} */ f) => `${f.path}: ${f.expected}`);
    const parts = [body.detail, body.fix, ...faults].filter(Boolean).map((part) => (/[.!?:]$/.test(part) ? part : `${part}.`));
    return { title: body.title ?? response.statusText, text: parts.join(" ") };
  } catch {
    return { title: `${response.status} ${response.statusText}`, text: "" };
  }
}

/** @param {HTMLElement} form @param {{title: string, text: string}} problem */
export function showProblem(form, problem) {
  let box = form.querySelector(".problem");
  if (!box) {
    box = document.createElement("div");
    box.className = "problem";
    box.setAttribute("role", "alert");
    form.append(box);
  }
  const title = document.createElement("b");
  title.textContent = problem.title;
  box.replaceChildren(title, problem.text);
}

/** @param {string} address @param {RequestInit} [init] */
export async function ask(address, init) {
  try {
    return await fetch(address, init);
  } catch {
    const body = { title: "The hub does not answer", detail: "Nothing was sent. Try again." };
    return new Response(JSON.stringify(body), { status: 503 });
  }
}

/** @param {HTMLFormElement} form */
async function send(form) {
  form.querySelector(".problem")?.remove();
  const buttons = /** @type {NodeListOf<HTMLButtonElement>} */ (form.querySelectorAll("button"));
  const free = () => {
    for (const button of buttons) button.disabled = false;
    form.removeAttribute("aria-busy");
  };
  for (const button of buttons) button.disabled = true;
  form.setAttribute("aria-busy", "true");
  const values = readForm(form);
  const sent = { ...values };
  if (Array.isArray(values.known) && !values.known.length) {
    free();
    return showProblem(form, { title: "Nothing judged", text: "Say of at least one region what is true." });
  }
  if ([...form.querySelectorAll("[data-least]")].some((group) => !group.querySelector(":checked"))) {
    free();
    return showProblem(form, { title: "Nothing chosen", text: "Tick one or more." });
  }
  const address = told(form, "json").replace(/\{(\w+)\}/g, (_, key) => {
    const value = String(values[key] ?? "");
    delete values[key];
    return encodeURIComponent(value);
  });
  const response = await ask(address + (form.dataset.query ?? ""), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(values),
  });
  free();
  if (!response.ok) return showProblem(form, await problemOf(response));
  const answer = await response.json().catch(() => ({}));
  const next = told(form, "next").replace(/\{(\w+)\}/g, (_, key) => encodeURIComponent(String(answer[key] ?? sent[key] ?? "")));
  if (told(form, "show")) showOnce(form, answer);
  else if (next) location.assign(next);
  else if (told(form, "done")) sayDone(form);
  else location.reload();
}

/** Take over every form that names an address of the API. */
export function wireForms(root = document) {
  for (const form of root.querySelectorAll("form[data-json]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void send(/** @type {HTMLFormElement} */ (form));
    });
  }
}
