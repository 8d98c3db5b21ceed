// @ts-check
/** The twin in words; `hub/pages/twin.py` says it alike. */

/** @type {Record<string, string>} */
const STEPS = {
  placed: "Ordered",
  sending: "Going out to the factory",
  sent: "Sent to the factory",
  ORDERED: "Taken by the factory",
  moved: "Another piece is kept for it",
  fetched: "Fetched from its place",
  IN_PROCESS: "In process",
  SHIPPED: "Shipped",
  RELEASED: "Released",
};

/** @param {any} slot */
export function slotWord(slot) {
  if (slot.seen === "present") return slot.colour;
  if (slot.seen === "absent") return "empty";
  if (slot.seen === "unsure") return slot.possible.length ? `unsure: ${slot.possible.join(" or ")}` : "unsure";
  return "not seen yet";
}

/** @param {string | null} reported */
export function reportedWord(reported) {
  return reported === null ? "not reported yet" : reported || "empty";
}

/** @param {any} colour */
export function stockWord(colour) {
  if (colour.seen === "present") {
    if (colour.reserved) return `${colour.present - colour.reserved} of ${colour.present} free`;
    return `${colour.present} in stock`;
  }
  if (colour.seen === "absent") return "none in stock";
  return colour.seen === "unsure" ? "unsure" : "not seen yet";
}

/** @param {any} station */
export function stationMark(station) {
  if (station.active === null) return { shape: "bar", tone: "", word: "never reported" };
  if (station.active) return { shape: "dot", tone: "ink", word: "working" };
  return { shape: "ring", tone: "", word: "waiting" };
}

/**
 * What happened, in order, then what is still to come; nothing to come once it ended.
 * @param {any} order @param {Record<string, any>} stations
 */
export function orderSteps(order, stations) {
  /** @type {any[]} */
  const all = order.steps;
  const last = all.at(-1);
  const seen = all.filter((step) => step.name !== "sending" || step === last);
  const words = (/** @type {string} */ name) => stations[name]?.name ?? STEPS[name] ?? name;
  const rows = seen.map((step) => ({
    ...step,
    words: words(step.name),
    state: step.name === "RELEASED" ? "failed" : "done",
  }));
  if (!isOpen(order)) return rows;
  const happened = new Set(all.map((step) => step.name));
  const passed = Object.values(stations).filter((one) => one.shape !== "rack" && one.shape !== "input");
  const stages = ["sent", "ORDERED", "fetched", "IN_PROCESS", ...passed.map((one) => one.id), "SHIPPED"];
  if (rows.length) rows[rows.length - 1].state = "now";
  const todo = stages.filter((name) => !happened.has(name));
  return [...rows, ...todo.map((name) => ({ name, words: words(name), state: "todo", at: null, event: "", frame: "" }))];
}

/** @param {any} order */
export function isOpen(order) {
  return order.status !== "SHIPPED" && order.status !== "RELEASED";
}
