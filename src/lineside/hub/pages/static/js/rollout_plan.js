// @ts-check
/** The plan of a rollout as the document that the fields of its form make. */

import { windowsOf } from "./windows.js";

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Field */

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

/** A criterion of the job contract; none without a share. @param {Record<string, string>} fields */
export function criterionOf({ failure_type, threshold_percentage, min_number_of_executed_things }) {
  const least = Number(min_number_of_executed_things);
  return threshold_percentage ? [{ failure_type, threshold_percentage: Number(threshold_percentage), min_number_of_executed_things: least }] : [];
}

/** The field of a fault: `$.plan.steps[1].watch_s` is its wave's, `plan.steps[1]`. @param {string} path */
export function keyOf(path) {
  const key = path.replace(/^\$\.?/, "");
  return /^plan\.(steps|abort)\[\d+\]/.exec(key)?.[0] ?? key.replace(/\[\d+\].*$/, "");
}

/** The waves, or the criteria, in order. @param {HTMLFormElement} form @param {string} of */
export function rowsOf(form, of) {
  return /** @type {HTMLElement[]} */ ([...form.querySelectorAll(`[data-rows=${of}] > [data-row]`)]);
}

/** The values of a row by key. @param {HTMLElement} row @returns {any} */
function valuesOf(row) {
  const fields = /** @type {NodeListOf<Field>} */ (row.querySelectorAll("[data-key]"));
  return Object.fromEntries([...fields].map((one) => [one.dataset.key, one.value]));
}

/** The body of the start, as the fields stand. @param {HTMLFormElement} form */
export function bodyOf(form) {
  const field = (/** @type {string} */ name) => /** @type {Field} */ (form.elements.namedItem(name)).value;
  const [number = "", name = "", limits_of] = field("version").split("/").reverse();
  const inspection = field("inspection");
  const named = limits_of === "limits" ? { inspection: name } : { group: name, ...(inspection ? { inspection } : {}) };
  /** @type {Record<string, number>} */
  const limits = {};
  for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (form.querySelectorAll("[name^='plan.limits.']"))) {
    if (input.value !== "") limits[input.name.replace("plan.limits.", "")] = scaled(input.value, input.dataset.scale);
  }
  const devices = field("plan.devices").split(",").map((one) => one.trim()).filter(Boolean);
  const steps = rowsOf(form, "steps").map((row) => stepOf(valuesOf(row)));
  const abort = rowsOf(form, "abort").flatMap((row) => criterionOf(valuesOf(row)));
  const windows = windowsOf(field("plan.windows"));
  const chosen = field("plan.group") ? { group: field("plan.group") } : {};
  const plan = { steps, limits, abort, ...(windows.length ? { windows } : {}), ...chosen, ...(devices.length ? { devices } : {}) };
  const rollback = /** @type {HTMLInputElement} */ (form.elements.namedItem("rollback")).checked;
  return { ...named, version: Number(number), plan, reason: field("reason"), rollback };
}
