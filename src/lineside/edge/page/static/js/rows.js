// @ts-check
/** The device's state in rows: hub, counts, updates, models, last decisions. */
import { answerText } from "./answers.js";
import { make, when } from "./dom.js";
import { milliseconds, number, size, tail } from "./format.js";

/** @typedef {Record<string, any>} Row */

/** @param {Row} said @returns {[string, Node | string][]} */
export function hubFacts({ hub, spool_depth: depth, spool_dropped: dropped }) {
  const offset = hub.clock_offset_s;
  const words = offset === null ? "not known" : `${offset < 0 ? "behind" : "ahead"} by ${milliseconds(Math.abs(offset) * 1000)}`;
  return [
    ["Bus", hub.connected ? "connected" : make("span", { class: "warn" }, "away")],
    ["Last heard of the hub", when(hub.heard_at || null)],
    ["Waiting in the spool", number(depth)],
    ...(dropped ? /** @type {[string, Node | string][]} */ ([["Dropped for lack of room", number(dropped)]]) : []),
    ["The hub's clock", words],
  ];
}

/** @param {Row} said @returns {[string, Node | string][]} */
export function countFacts({ frames, predictions, refused, version }) {
  return [
    ["Pictures", number(frames)],
    ["Decisions", number(predictions)],
    ...Object.entries(refused).map(([reason, n]) => /** @type {[string, string]} */ ([`Left: ${reason}`, number(n)])),
    ["Version", version],
  ];
}

/** @param {Row[]} jobs */
export function updates(jobs) {
  if (!jobs.length) return [make("p", { class: "muted small" }, "None under way.")];
  return jobs.map(({ job, model, version, details }) => {
    const [there, whole] = [Number(details.bytes ?? NaN), Number(details.bytes_total ?? NaN)];
    const bytes = whole > 0 ? `, ${size(there)} of ${size(whole)}` : "";
    const bar = { max: String(whole), value: String(there), "aria-label": `Bytes of ${model}` };
    return make(
      "div",
      { class: "stack" },
      make("p", {}, `${model} ${version}: ${details.step ?? "begun"}${bytes}`),
      ...(whole > 0 ? [make("progress", bar)] : []),
      make("p", { class: "id" }, job),
    );
  });
}

/** @param {Row[]} rows */
export function models(rows) {
  if (!rows.length) return [make("tr", {}, make("td", { colspan: "6" }, "No package is loaded. The hub says which to run, or a stick brings one."))];
  return rows.map((one) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, one.name),
      make("td", {}, one.version),
      make("td", {}, make("span", { class: "id" }, one.identifier)),
      make("td", {}, make("span", { class: "id", title: one.digest }, tail(one.digest))),
      make("td", {}, one.inspection || "whoever asks by name"),
      make("td", {}, when(one.since)),
    ),
  );
}

/** @param {Row[]} rows */
export function recent(rows) {
  if (!rows.length) return [make("tr", {}, make("td", { colspan: "6" }, "Nothing was decided since the start."))];
  return rows.map((one) =>
    make(
      "tr",
      {},
      make("td", {}, when(one.frame.captured_at, "clock")),
      make("td", {}, one.inspection),
      make("td", {}, answerText(one)),
      make("td", { class: "number" }, milliseconds(one.latency_ms.total)),
      make("td", {}, one.frame.part || "–"),
      make("td", {}, make("span", { class: "id", title: one.frame.id }, tail(one.frame.id))),
    ),
  );
}
