// @ts-check
/** The device's state in rows: hub, updates, models, last decisions. */
import { make, when } from "./dom.js";

/** @typedef {Record<string, any>} Row */

/** @param {Row} said @returns {[string, Node | string][]} */
export function hubFacts({ hub, texts }) {
  return [
    ["Bus", hub.connected ? "connected" : make("span", { class: "warn" }, "away")],
    ["Last heard of the hub", when(hub.heard_at || null)],
    ...texts.hub,
  ];
}

/** @param {Row} said */
export function updates({ updates: jobs, texts }) {
  if (!jobs.length) return [make("p", { class: "muted small" }, "None under way.")];
  return jobs.map((/** @type {Row} */ { job, model, version, details }, /** @type {number} */ n) => {
    const [there, whole] = [Number(details.bytes ?? NaN), Number(details.bytes_total ?? NaN)];
    const bar = { max: String(whole), value: String(there), "aria-label": `Bytes of ${model}` };
    return make(
      "div",
      { class: "stack" },
      make("p", {}, `${model} ${version}: ${texts.updates[n]}`),
      ...(whole > 0 ? [make("progress", bar)] : []),
      make("p", { class: "id" }, job),
    );
  });
}

/** @param {Row} said */
export function models({ models: rows, texts }) {
  if (!rows.length) return [make("tr", {}, make("td", { colspan: "6" }, "No package is loaded. The hub says which to run, or a stick brings one."))];
  return rows.map((/** @type {Row} */ one, /** @type {number} */ n) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, one.name),
      make("td", {}, one.version),
      make("td", {}, make("span", { class: "id" }, one.identifier)),
      make("td", {}, make("span", { class: "id", title: one.digest }, texts.models[n])),
      make("td", {}, one.inspection || "whoever asks by name"),
      make("td", {}, when(one.since)),
    ),
  );
}

/** @param {Row} said */
export function recent({ recent: rows, texts }) {
  if (!rows.length) return [make("tr", {}, make("td", { colspan: "6" }, "Nothing was decided since the start."))];
  return rows.map((/** @type {Row} */ one, /** @type {number} */ n) =>
    make(
      "tr",
      {},
      make("td", {}, when(one.frame.captured_at, "clock")),
      make("td", {}, one.inspection),
      make("td", {}, texts.recent[n][0]),
      make("td", { class: "number" }, texts.recent[n][1]),
      make("td", {}, one.frame.part || "–"),
      make("td", {}, make("span", { class: "id", title: one.frame.id }, texts.recent[n][2])),
    ),
  );
}
