// @ts-check
/**
 * What the scene shows, from the twin's state alone: no animation invents a move.
 *
 * A place shows a disc only while a picture says so and is fresh; an outline where a piece is
 * expected (the factory reports it, or the last picture is too old to vouch for it); a question
 * mark where nothing was seen or the answer is unsure. A part under way stands at the last station
 * that was seen to work on it; its outline stands where it is expected next.
 */

/** @typedef {{id: string, show: "disc" | "outline" | "empty" | "unsure" | "unknown", colour: string, differs: boolean, reserved: boolean}} SlotView */
/** @typedef {{order: string, colour: string, station: string, show: "disc" | "outline"}} PartView */

/** @param {any} slot @param {number} stale_s @param {number} now_ms @returns {SlotView} */
function slotView(slot, stale_s, now_ms) {
  const at = slot.evidence.at ? new Date(slot.evidence.at).getTime() : 0;
  const stale = now_ms - at > stale_s * 1000;
  const base = { id: slot.id, differs: Boolean(slot.differs_since), reserved: Boolean(slot.reserved_by) };
  if (slot.seen === "present") return { ...base, show: stale ? "outline" : "disc", colour: slot.colour };
  if (slot.seen === "unsure") return { ...base, show: "unsure", colour: slot.possible[0] ?? "" };
  if (slot.seen === "unknown") {
    return { ...base, show: slot.reported ? "outline" : "unknown", colour: slot.reported ?? "" };
  }
  return { ...base, show: slot.reported ? "outline" : "empty", colour: slot.reported ?? "" };
}

/** @param {any} order */
function isOpen(order) {
  return order.status !== "SHIPPED" && order.status !== "RELEASED";
}

/** @param {any} order @param {any[]} stations @returns {PartView[]} */
function partViews(order, stations) {
  const names = order.steps.map((/** @type {any} */ step) => step.name);
  const passed = stations.filter((one) => one.shape !== "input").map((one) => one.id);
  const visited = names.filter((/** @type {string} */ name) => passed.includes(name));
  const here = visited.at(-1);
  /** @type {PartView[]} */
  const views = [];
  const off = names.includes("fetched") || visited.some((/** @type {string} */ id) => !isRack(stations, id));
  if (off && here) views.push({ order: order.id, colour: order.colour, station: here, show: "disc" });
  const expected = passed[here ? passed.indexOf(here) + 1 : 0];
  if (names.includes("sent") && expected && !isRack(stations, expected)) {
    views.push({ order: order.id, colour: order.colour, station: expected, show: "outline" });
  }
  return views;
}

/** @param {any[]} stations @param {string} id */
function isRack(stations, id) {
  return stations.find((one) => one.id === id)?.shape === "rack";
}

/**
 * @param {any} state the twin as the server tells it
 * @param {{slots: string[], stations: any[], stale_after_s: number}} plan @param {number} now_ms
 */
export function sceneOf(state, plan, now_ms) {
  const slots = plan.slots.map((id) => slotView(state.slots[id], plan.stale_after_s, now_ms));
  const stations = plan.stations.map(({ id, name, shape }) => ({
    id,
    name,
    shape,
    active: state.stations[id]?.active ?? null,
  }));
  const open = state.orders.filter(isOpen);
  const parts = open.flatMap((/** @type {any} */ order) => partViews(order, plan.stations));
  return { slots, stations, parts };
}

/** Row and column of a place: `B3` is the second row, third column; other names fill rows of three. @param {string} id @param {number} n */
export function gridPlace(id, n) {
  const named = /^([A-Z])(\d)$/.exec(id);
  if (named) return { row: named[1].charCodeAt(0) - 65, column: Number(named[2]) - 1 };
  return { row: Math.floor(n / 3), column: n % 3 };
}
