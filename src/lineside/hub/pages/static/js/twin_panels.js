// @ts-check
/** The twin's tables and panels, from the same state as the scene. */
import { fill, idLink, make, mark, piece, put, when } from "./dom.js";
import { probability, tail } from "./format.js";
import { isOpen, orderSteps, reportedWord, slotWord, stationMark, stockWord } from "./twin_words.js";

/** @param {Element} root @param {any} state */
export function showTables(root, state) {
  for (const slot of Object.values(state.slots)) {
    const row = root.querySelector(`[data-slot="${CSS.escape(slot.id)}"]`);
    if (!row) continue;
    const disc = /** @type {HTMLElement} */ (row.querySelector(".piece"));
    disc.dataset.colour = slot.colour;
    disc.dataset.seen = slot.seen;
    put(row.querySelector("[data-word]"), slotWord(slot));
    put(row.querySelector("[data-probability]"), slot.seen === "unknown" ? "–" : probability(slot.probability));
    put(row.querySelector("[data-reported]"), reportedWord(slot.reported));
    row.querySelector("[data-reported]")?.classList.toggle("warn", Boolean(slot.differs_since));
    fill(row.querySelector("[data-reserved]"), slot.reserved_by ? orderMark(slot.reserved_by) : "");
    fill(row.querySelector("[data-age]"), when(slot.evidence.at, "age"));
    fill(row.querySelector("[data-frame]"), idLink("frames", slot.evidence.frame));
  }
  for (const station of Object.values(state.stations)) {
    const row = root.querySelector(`[data-station="${CSS.escape(station.id)}"]`);
    fill(row?.querySelector("[data-mark]") ?? null, mark(stationMark(station)));
    put(row?.querySelector("[data-says]") ?? null, station.description);
    fill(row?.querySelector("[data-age]") ?? null, when(station.evidence.at, "age"));
    fill(row?.querySelector("[data-event]") ?? null, idLink("events", station.evidence.event));
  }
}

/** @param {string} id */
function orderMark(id) {
  return make("span", { class: "id", title: id }, tail(id));
}

/** @param {Element} root @param {any} state */
export function showStock(root, state) {
  for (const colour of Object.values(state.colours)) {
    put(root.querySelector(`[data-stock="${CSS.escape(colour.colour)}"]`), stockWord(colour));
  }
}

/** Five lines, each with its age; silence is said as such. @param {Element} root @param {any} state @param {number} silent_s */
export function showSensors(root, state, silent_s) {
  for (const sensor of Object.values(state.sensors)) {
    const place = root.querySelector(`[data-sensor="${CSS.escape(sensor.id)}"]`);
    put(place?.querySelector("[data-line]") ?? null, `${sensor.name} [${sensor.unit}]: ${sensor.shown || "no data"}`);
    const age = place?.querySelector("[data-age]") ?? null;
    const at = sensor.evidence.at;
    const silent = !at || Date.now() - new Date(at).getTime() > silent_s * 1000;
    age?.classList.toggle("warn", silent);
    if (at) fill(age, silent ? "no data since " : "", when(at));
    else fill(age, "no data since the start");
  }
}

/** The oldest open order with its steps first, then the others in one line each. @param {Element} root @param {any} state */
export function showOrders(root, state) {
  if (!state.orders.length) return;
  const open = state.orders.filter(isOpen);
  const first = open.at(-1) ?? state.orders[0];
  const rest = state.orders.filter((/** @type {any} */ order) => order !== first).slice(0, 8);
  const blocks = [first, ...rest].map((order) => {
    const name = make("b", {}, piece(order.colour), ` ${order.colour} `, orderMark(order.id));
    const head = make("p", { class: "row spread" }, name, make("span", { class: "small muted" }, order.status));
    const block = make("div", { "data-order-id": order.id }, head);
    if (order === first) block.append(steps(order, state.stations));
    if (order.reason) block.append(make("p", { class: "note" }, order.reason));
    return block;
  });
  fill(root.querySelector("[data-orders]"), ...blocks);
}

/** @param {any} order @param {Record<string, any>} stations */
function steps(order, stations) {
  const list = make("ol", { class: "steps" });
  for (const step of orderSteps(order, stations)) {
    const item = make("li", { class: step.state, "data-step": step.name }, make("b", {}, step.words));
    if (step.at) {
      const links = make("small", {}, when(step.at, "clock"));
      if (step.event) links.append(" ", idLink("events", step.event));
      if (step.frame) links.append(" ", idLink("frames", step.frame));
      item.append(links);
    }
    list.append(item);
  }
  return list;
}

/** @param {Element} root @param {any} state */
export function showDifferences(root, state) {
  const rows = state.discrepancies.map((/** @type {any} */ one) =>
    make(
      "li",
      { class: "warn" },
      `${one.slot}: the picture shows ${one.seen || "empty"}, the factory reports ${one.reported || "empty"}, since `,
      when(one.since),
      " ",
      idLink("events", one.event),
    ),
  );
  const none = make("li", { class: "muted" }, "None: picture and stock report agree.");
  fill(root.querySelector("[data-discrepancies]"), ...(rows.length ? rows : [none]));
  const alerts = state.alerts.map((/** @type {any} */ one) =>
    make("li", {}, `${one.text} `, when(one.evidence.at), " ", idLink("events", one.evidence.event)),
  );
  fill(root.querySelector("[data-alerts]"), ...(alerts.length ? alerts : [make("li", { class: "muted" }, "None.")]));
}

/** What a place or station rests on, in rows of name and value. @param {any} state @param {string} key @returns {[string, Node | string][]} */
export function facts(state, key) {
  const [kind, id] = key.split(":");
  if (kind === "station") {
    const station = state.stations[id];
    return [
      ["State", mark(stationMark(station))],
      ["Description", station.description || "nothing"],
      ["Target", station.target || "none"],
      ["Updated", when(station.evidence.at)],
      ["Event", idLink("events", station.evidence.event)],
    ];
  }
  const slot = state.slots[id];
  const value = slotWord(slot) + (slot.seen === "unknown" ? "" : `, ${probability(slot.probability)}`);
  return [
    ["Value", value],
    ["Factory reports", reportedWord(slot.reported)],
    ["Frame", idLink("frames", slot.evidence.frame)],
    ["Package", idLink("models", slot.evidence.package)],
    ["Event", idLink("events", slot.evidence.event)],
    ["Seen", when(slot.evidence.at)],
  ];
}
