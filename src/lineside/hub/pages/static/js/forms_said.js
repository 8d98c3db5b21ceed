// @ts-check
/** What a form says after its answer: that it worked, a value that is shown once, or a fault at its field. */
import { make, when } from "./dom.js";

/** @typedef {{path: string, value: string, expected: string, fix: string}} Fault */

/** Read as an attribute: a field named `dataset` stands before the form's own `dataset`. @param {HTMLFormElement} form @param {string} name */
export function told(form, name) {
  return form.getAttribute(`data-${name}`) ?? "";
}

/** What stands at a path of an answer, as `invitation.ends_at`. @param {any} answer @param {string} path */
export function valueAt(answer, path) {
  return path.split(".").reduce((value, key) => value?.[key], answer);
}

/**
 * A value of the answer that is not told again, until when it works (`data-show-until`), and the
 * command to run with it (`data-show-command`).
 * @param {HTMLFormElement} form @param {Record<string, any>} answer
 */
export function showOnce(form, answer) {
  const value = String(answer[told(form, "show")] ?? "");
  const box = document.createElement("div");
  box.className = "once";
  box.setAttribute("role", "status");
  const words = document.createElement("p");
  words.textContent = told(form, "show-words");
  const code = document.createElement("code");
  code.textContent = value;
  box.append(words, code);
  const until = valueAt(answer, told(form, "show-until"));
  if (until) box.append(make("p", {}, "Works once, until ", when(until, "clock")));
  const command = told(form, "show-command").replace("{code}", value);
  if (command) box.append(make("p", {}, "On the device, run:"), make("code", {}, command));
  form.querySelector("[role=status]")?.remove();
  form.append(box);
}

/** @param {HTMLFormElement} form */
export function sayDone(form) {
  const said = document.createElement("p");
  said.className = "state";
  said.dataset.shape = "tick";
  said.dataset.tone = "ok";
  said.setAttribute("role", "status");
  said.textContent = told(form, "done");
  form.querySelector("[role=status]")?.remove();
  form.append(said);
}

/** Take the faults of the last try away. @param {HTMLFormElement} form */
export function clearFaults(form) {
  for (const old of form.querySelectorAll(".field-fault, .problem")) old.remove();
  for (const old of form.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
}

/** Show each fault at the field (`data-field`) of its key; the others are returned. @param {HTMLFormElement} form @param {Fault[]} faults @param {(path: string) => string} keyOf */
export function showFaults(form, faults, keyOf) {
  return faults.filter((fault) => {
    const place = form.querySelector(`[data-field="${CSS.escape(keyOf(fault.path))}"]`);
    const input = place?.querySelector("input, select, textarea");
    if (!place || !input) return true;
    input.setAttribute("aria-invalid", "true");
    place.append(make("small", { class: "field-fault", role: "alert" }, `Expected ${fault.expected}. ${fault.fix}`));
    return false;
  });
}

/** Where an answer went: the page on which boxes and masks are drawn on that picture, once people may see which one it is. @param {string} dataset @param {string} [frame] */
export function drawing(dataset, frame) {
  if (!frame) return "";
  const query = new URLSearchParams({ picture: frame });
  return make("a", { href: `/datasets/${encodeURIComponent(dataset)}/label?${query}` }, "Draw on it");
}
