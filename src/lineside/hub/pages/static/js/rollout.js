// @ts-check
/** The plan of a rollout: one document for the preview and for the start, which the command takes too. */
import { make } from "./dom.js";
import { ask, showProblem } from "./forms.js";
import { clearFaults, showFaults } from "./forms_said.js";
import { wireMoments } from "./moments.js";
import { parsed } from "./parts.js";
import { faultLines } from "./rule_try.js";
import { tellTimes } from "./time.js";

/** @typedef {HTMLInputElement | HTMLSelectElement} Field */

/** A value in the unit of the plan, without the dust of binary fractions. @param {string} value @param {string} [scale] */
export function scaled(value, scale = "1") {
  return Number((Number(value) * Number(scale)).toPrecision(12));
}

/** A wave as a step of the plan; what is empty is left out. @param {Record<string, string>} fields */
export function stepOf({ kind, value = "", group = "", minutes = "", per_minute = "", not_before = "" }) {
  /** @type {Record<string, unknown>} */
  const step = kind === "group" ? { group } : { [kind]: Number(value) };
  if (minutes) step.watch_s = scaled(minutes, "60");
  if (per_minute) step.per_minute = Number(per_minute);
  if (not_before) step.not_before = new Date(not_before).toISOString();
  return step;
}

/** The field of a fault: `$.plan.steps[1].watch_s` is its wave's, `plan.steps[1]`. @param {string} path */
export function keyOf(path) {
  const key = path.replace(/^\$\.?/, "");
  return /^plan\.steps\[\d+\]/.exec(key)?.[0] ?? key.replace(/\[\d+\].*$/, "");
}

/** @param {HTMLFormElement} form */
function waves(form) {
  return /** @type {HTMLElement[]} */ ([...form.querySelectorAll("[data-wave]")]);
}

/** Number the waves, and show of each what its kind asks for. @param {HTMLFormElement} form */
function arrange(form) {
  const all = waves(form);
  all.forEach((wave, place) => {
    wave.dataset.field = `plan.steps[${place}]`;
    const legend = wave.querySelector("legend");
    if (legend) legend.textContent = `Wave ${place + 1}`;
    const kind = /** @type {HTMLSelectElement} */ (wave.querySelector("[data-key=kind]")).value;
    for (const part of /** @type {NodeListOf<HTMLElement>} */ (wave.querySelectorAll("[data-of]"))) {
      part.hidden = !(part.dataset.of ?? "").split(" ").includes(kind);
    }
    const remove = /** @type {HTMLButtonElement} */ (wave.querySelector("[data-remove]"));
    remove.disabled = all.length === 1;
    remove.setAttribute("aria-label", `Remove wave ${place + 1}`);
  });
}

/** The body of the start, as the fields stand. @param {HTMLFormElement} form */
function bodyOf(form) {
  const field = (/** @type {string} */ name) => /** @type {Field} */ (form.elements.namedItem(name)).value;
  const [group, version] = field("version").split("/");
  /** @type {Record<string, number>} */
  const limits = {};
  for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (form.querySelectorAll("[name^='plan.limits.']"))) {
    if (input.value !== "") limits[input.name.replace("plan.limits.", "")] = scaled(input.value, input.dataset.scale);
  }
  const devices = field("plan.devices").split(",").map((one) => one.trim()).filter(Boolean);
  const steps = waves(form).map((wave) => {
    const fields = /** @type {NodeListOf<Field>} */ (wave.querySelectorAll("[data-key]"));
    return stepOf(/** @type {any} */ (Object.fromEntries([...fields].map((one) => [one.dataset.key, one.value]))));
  });
  const chosen = field("plan.group") ? { group: field("plan.group") } : {};
  const plan = { steps, limits, ...chosen, ...(devices.length ? { devices } : {}) };
  const rollback = /** @type {HTMLInputElement} */ (form.elements.namedItem("rollback")).checked;
  return { group, version: Number(version), plan, reason: field("reason"), rollback };
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
  const rows = /** @type {Element} */ (form.querySelector(".ro-waves"));
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
      const last = waves(form).at(-1);
      if (last) {
        const added = /** @type {HTMLElement} */ (last.cloneNode(true));
        last.before(added);
        wireMoments(added);
      }
      arrange(form);
      forget();
    } else if (button?.hasAttribute("data-remove")) {
      button.closest("[data-wave]")?.remove();
      arrange(form);
      forget();
      /** @type {HTMLElement | null} */ (rows.querySelector("select"))?.focus();
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
