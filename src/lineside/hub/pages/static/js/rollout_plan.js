// @ts-check
/** The plan of a rollout as the document that the fields of its form make. */

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

/** The fields of each wave, in order. @param {HTMLFormElement} form */
export function waves(form) {
  return /** @type {HTMLElement[]} */ ([...form.querySelectorAll("[data-wave]")]);
}

/** The body of the start, as the fields stand. @param {HTMLFormElement} form */
export function bodyOf(form) {
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
