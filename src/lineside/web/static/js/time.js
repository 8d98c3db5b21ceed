// @ts-check
/** Times and ages, which go on while a page stands and follow the reader's own clock. */

const UNIT = "\u00a0";

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

/** Date and time where the reader is; the date is left out for today. @param {Date} at @param {Date} now */
export function dayTime(at, now) {
  if (at.toDateString() === now.toDateString()) return clockTime(at);
  const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()]
    .map((part) => String(part).padStart(2, "0"))
    .join("-");
  return `${day} ${clockTime(at)}`;
}

/**
 * A moment as people read it: `both` is clock and age, `clock` or `age` one of them.
 * @param {Date} at @param {string} kind @param {Date} now
 */
export function moment(at, kind, now) {
  const old = age((now.getTime() - at.getTime()) / 1000);
  if (kind === "age") return old;
  return kind === "clock" ? dayTime(at, now) : `${dayTime(at, now)}, ${old}`;
}
