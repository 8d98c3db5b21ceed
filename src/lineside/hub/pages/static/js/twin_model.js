// @ts-check
/** What the scene shows: the server's view, whose discs turn to outlines when their time is over. */

import { span } from "./time.js";

/** @typedef {{id: string, show: string, colour: string, word: string, captured_at: string | null, stale_at: string | null, notes: string[], event: string}} PlaceView */
/** @typedef {{at: string | null, slots: Record<string, PlaceView>, stations: Record<string, any>, parts: any[]}} SceneView */

/** The time that a view is of: that of the past, or now. @param {SceneView} view */
export function timeOf(view) {
  return view.at ? new Date(view.at).getTime() : Date.now();
}

/**
 * The places at a time, which goes on while the server is silent.
 * @param {SceneView} view @param {number} now_ms @returns {PlaceView[]}
 */
export function placesAt(view, now_ms) {
  return Object.values(view.slots).map((slot) =>
    slot.show === "disc" && slot.stale_at && now_ms > new Date(slot.stale_at).getTime()
      ? { ...slot, show: "outline" }
      : slot,
  );
}

/** The text under a place: the age of an outline, then its notes. @param {PlaceView} place @param {number} now_ms */
export function placeNote({ show, captured_at, stale_at, notes }, now_ms) {
  const is_old = show === "outline" && stale_at && captured_at;
  const old = is_old ? span((now_ms - new Date(captured_at).getTime()) / 1000) : "";
  return [old, ...notes].filter(Boolean).join(" ");
}

/** Row and column of a place: `B3` is the second row, third column; other names fill rows of three. @param {string} id @param {number} n */
export function gridPlace(id, n) {
  const named = /^([A-Z])(\d)$/.exec(id);
  if (named) return { row: named[1].charCodeAt(0) - 65, column: Number(named[2]) - 1 };
  return { row: Math.floor(n / 3), column: n % 3 };
}
