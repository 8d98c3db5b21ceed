// @ts-check
/** A changed rule tried on a recorded span: the difference, or each fault with its line. */
import { make } from "./dom.js";
import { ask } from "./forms.js";
import { parsed } from "./parts.js";
import { tellTimes } from "./time.js";

/** Faults in words, each once. @param {{detail?: string, fix?: string, faults?: {path: string, value: string, expected: string, fix: string}[]}} problem */
export function faultLines({ detail = "", fix = "", faults = [] }) {
  if (!faults.length) return [[detail, fix].filter(Boolean).join(". ")];
  return faults.map((one) => `${one.path === "$" ? "" : `${one.path}: `}${one.value === "nothing" ? "missing, expected" : `${one.value} is not`} ${one.expected}. ${one.fix}`.trim());
}

/** @param {Response} response */
async function refused(response) {
  const problem = await response.json().catch(() => ({ title: response.statusText, detail: "" }));
  const lines = faultLines(problem).map((line) => make("li", {}, line));
  const title = make("b", {}, `Not tried: ${problem.title ?? "refused"}`);
  return make("div", { class: "problem", role: "alert" }, title, make("ul", {}, ...lines));
}

/** @param {HTMLFormElement} form @param {Element} place */
async function tryIt(form, place) {
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  button.disabled = true;
  place.replaceChildren(make("p", { class: "note", role: "status" }, "Running over what was recorded …"));
  const fields = [...new FormData(form)].map(([name, value]) => [name, String(value)]);
  const response = await ask(form.dataset.asks ?? "", { method: "POST", body: new URLSearchParams(fields) });
  button.disabled = false;
  if (response.ok) {
    place.replaceChildren(parsed(await response.text()));
  } else place.replaceChildren(await refused(response));
  tellTimes();
  place.scrollIntoView({ block: "nearest" });
}

if (typeof document !== "undefined") {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-asks='/events/rules/try']"));
  const place = document.querySelector("[data-tried]");
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    if (place) void tryIt(form, place);
  });
}
