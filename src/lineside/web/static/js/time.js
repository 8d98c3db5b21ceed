// @ts-check
/** Times and ages, which go on while a page stands and follow the reader's own clock. */

const UNIT = "\u00a0";
const ZONED = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });

/** A length of time in at most two units. @param {number} seconds */
export function span(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  /** @type {[number, string, number, string][]} */
  const units = [
    [86400, "d", 3600, "h"],
    [3600, "h", 60, "min"],
    [60, "min", 1, "s"],
  ];
  for (const [size, unit, below, small] of units) {
    if (left >= size) {
      const rest = Math.floor((left % size) / below);
      return `${Math.floor(left / size)}${UNIT}${unit}` + (rest ? ` ${rest}${UNIT}${small}` : "");
    }
  }
  return `${left}${UNIT}s`;
}

/** @param {number} seconds */
export function age(seconds) {
  return seconds < 1 ? "just now" : `${span(seconds)} ago`;
}

/** The time of day where the reader is. @param {Date} at */
export function clockTime(at) {
  return [at.getHours(), at.getMinutes(), at.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}

/** The zone of the reader's clock at a time: `CET`, `GMT+5:30`. @param {Date} at */
export function zoneAt(at) {
  return ZONED.formatToParts(at).find((part) => part.type === "timeZoneName")?.value ?? "";
}

/** Date, time and zone where the reader is; the date is left out for `now`'s day. @param {Date} at @param {Date} [now] */
export function dayTime(at, now) {
  const clock = `${clockTime(at)}${UNIT}${zoneAt(at)}`;
  if (at.toDateString() === now?.toDateString()) return clock;
  const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()]
    .map((part) => String(part).padStart(2, "0"))
    .join("-");
  return `${day} ${clock}`;
}

/**
 * A moment as people read it: `both` is clock and age, `clock` or `age` one of them, `now` the
 * present hour and minute.
 * @param {Date} at @param {string} kind @param {Date} now
 */
export function moment(at, kind, now) {
  const old = age((now.getTime() - at.getTime()) / 1000);
  if (kind === "age") return old;
  if (kind === "now") return `${clockTime(now).slice(0, 5)}${UNIT}${zoneAt(now)}`;
  return kind === "clock" ? dayTime(at, now) : `${dayTime(at, now)}, ${old}`;
}

/** Write each <time> in the reader's own clock and, where asked, how long ago it was. */
export function tellTimes(/** @type {ParentNode} */ root = document) {
  const now = new Date();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(at.getTime())) continue;
    const text = moment(at, element.getAttribute("data-show") ?? "both", now);
    if (element.textContent !== text) element.textContent = text;
    if (!element.hasAttribute("title")) element.setAttribute("title", `${dayTime(at)} (${at.toISOString()})`);
  }
}
