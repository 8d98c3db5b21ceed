// @ts-check
/** The form of a rollout: one plan for the preview and for the start, which the command takes too. */
import { make } from "./dom.js";
import { ask, showProblem } from "./forms.js";
import { clearFaults, showFaults } from "./forms_said.js";
import { wireMoments } from "./moments.js";
import { parsed } from "./parts.js";
import { bodyOf, keyOf, rowsOf } from "./rollout_plan.js";
import { faultLines } from "./rule_try.js";
import { tellTimes } from "./time.js";

/** @typedef {import("./rollout_plan.js").Field} Field */

/** Offer the inspections that the chosen version can answer for. @param {HTMLFormElement} form */
function offerInspections(form) {
  const version = /** @type {HTMLSelectElement} */ (form.elements.namedItem("version"));
  const inspection = /** @type {HTMLSelectElement} */ (form.elements.namedItem("inspection"));
  const fitting = (version.selectedOptions[0]?.dataset.inspections ?? "").split(" ");
  for (const option of inspection.options) option.hidden = option.disabled = option.value !== "" && !fitting.includes(option.value);
  if (inspection.selectedOptions[0]?.disabled) inspection.value = "";
}

/** Number the waves and the criteria, and show of each wave what its kind asks for. @param {HTMLFormElement} form */
function arrange(form) {
  offerInspections(form);
  for (const list of /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll("[data-rows]"))) {
    const { rows: key = "", name = "" } = list.dataset;
    rowsOf(form, key).forEach((row, place, all) => {
      row.dataset.field = `plan.${key}[${place}]`;
      const legend = row.querySelector("legend");
      if (legend) legend.textContent = `${name} ${place + 1}`;
      const kind = /** @type {HTMLSelectElement | null} */ (row.querySelector("[data-key=kind]"))?.value ?? "";
      for (const part of /** @type {NodeListOf<HTMLElement>} */ (row.querySelectorAll("[data-of]"))) {
        part.hidden = !(part.dataset.of ?? "").split(" ").includes(kind);
      }
      const remove = /** @type {HTMLButtonElement} */ (row.querySelector("[data-remove]"));
      remove.disabled = all.length === 1;
      remove.setAttribute("aria-label", `Remove ${name.toLowerCase()} ${place + 1}`);
    });
  }
}

/** What the hub refuses, each sentence at its field. @param {HTMLFormElement} form @param {Response} response */
async function refused(form, response) {
  const problem = await response.json().catch(() => ({ title: response.statusText }));
  const named = problem.where === "devices" ? "plan.devices" : problem.where === "group" ? "plan.group" : "version";
  const place = form.querySelector(`[data-field="${named}"]`);
  if (!problem.faults?.length && problem.detail && place) {
    place.querySelector("input, select")?.setAttribute("aria-invalid", "true");
    place.append(make("small", { class: "field-fault", role: "alert" }, faultLines(problem).join(" ")));
  } else {
    const others = showFaults(form, problem.faults ?? [], keyOf);
    if (others.length || !problem.faults?.length) showProblem(form, { title: problem.title, text: faultLines({ ...problem, faults: others }).join(" ") });
  }
  /** @type {HTMLElement | null} */ (form.querySelector("[aria-invalid]"))?.focus();
}

/** Let the plan be sent, or not while it is under way. @param {HTMLFormElement} form @param {boolean} may */
function allow(form, may) {
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (form.querySelectorAll("[data-look], [type=submit]"))) button.disabled = !may;
}

/** Whether the fields hold what a preview needs, which is all but the reason. @param {HTMLFormElement} form */
function isValid(form) {
  return /** @type {Field[]} */ ([...form.elements]).every((one) => one.name === "reason" || one.reportValidity());
}

/** @param {HTMLFormElement} form @param {string} address @param {boolean} [asForm] */
async function send(form, address, asForm = false) {
  clearFaults(form);
  const body = bodyOf(form);
  const document_ = form.querySelector("[data-document]");
  if (document_) document_.textContent = JSON.stringify(body.plan, null, 2);
  const text = JSON.stringify(body);
  const json = { headers: { "content-type": "application/json" }, body: text };
  const pressed = document.activeElement;
  allow(form, false);
  const response = await ask(address, { method: "POST", ...(asForm ? { body: new URLSearchParams({ body: text }) } : json) });
  if (asForm || !response.ok) allow(form, true); // a rollout that began leads to its page: no second one
  if (document.activeElement === document.body) /** @type {HTMLElement | null} */ (pressed)?.focus();
  if (!response.ok) await refused(form, response);
  return response.ok ? response : null;
}

/** @param {HTMLFormElement} form */
function wire(form) {
  const shown = /** @type {Element} */ (form.querySelector("[data-preview-shown]"));
  let plan = 0; // counts changes and previews: an answer to an earlier one is not shown
  const forget = () => {
    plan += 1;
    shown.replaceChildren();
  };
  arrange(form);
  addEventListener("pageshow", () => allow(form, true));
  form.addEventListener("input", (event) => {
    if (/** @type {Field} */ (event.target).name !== "reason") forget();
  });
  form.addEventListener("change", () => arrange(form));
  form.addEventListener("click", async (event) => {
    const button = /** @type {HTMLElement} */ (event.target).closest("button");
    if (button?.hasAttribute("data-add")) {
      const last = rowsOf(form, button.dataset.add ?? "").at(-1);
      if (last) {
        const added = /** @type {HTMLElement} */ (last.cloneNode(true));
        last.before(added);
        wireMoments(added);
      }
      arrange(form);
      forget();
    } else if (button?.hasAttribute("data-remove")) {
      const rows = button.closest("[data-rows]");
      button.closest("[data-row]")?.remove();
      arrange(form);
      forget();
      /** @type {HTMLElement | null} */ (rows?.querySelector("select"))?.focus();
    } else if (button?.hasAttribute("data-look")) {
      forget();
      if (!isValid(form)) return;
      const asked = plan;
      const response = await send(form, form.dataset.preview ?? "", true);
      const text = response ? await response.text() : "";
      if (asked !== plan) return;
      shown.replaceChildren(parsed(text));
      tellTimes();
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const response = await send(form, form.dataset.asks ?? "");
    if (response) location.assign(`/rollouts/${(await response.json()).id}`);
  });
}

if (typeof document !== "undefined") {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-asks='/api/v1/rollouts']"));
  if (form) wire(form);
}
