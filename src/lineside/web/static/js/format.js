// @ts-check
/** How figures, ages and ids are written; `web/format.py` writes them alike. */

const NARROW = "\u202f";
const UNIT = "\u00a0";

/** `12609` becomes `12 609`. @param {number} value @param {number} [digits] */
export function number(value, digits = 0) {
  const whole = Math.floor(Math.abs(value) * 10 ** digits + 0.5);
  const sign = value < 0 && whole ? "-" : "";
  const text = String(whole).padStart(digits + 1, "0");
  const head = digits ? text.slice(0, -digits) : text;
  const grouped = head.replace(/\B(?=(\d{3})+$)/g, NARROW);
  return sign + grouped + (digits ? "." + text.slice(-digits) : "");
}

/** A figure and its unit. @param {number} value @param {string} unit @param {number} [digits] */
export function withUnit(value, unit, digits = 0) {
  return number(value, digits) + UNIT + unit;
}

/** A share of 0-1 as `1.9 %`. @param {number} share @param {number} [digits] */
export function percent(share, digits = 1) {
  return withUnit(share * 100, "%", digits);
}

/** Two digits; certainty is never claimed by rounding. @param {number} value */
export function probability(value) {
  return number(value > 0 && value < 1 ? Math.min(Math.max(value, 0.01), 0.99) : value, 2);
}

/** @param {number} value */
export function milliseconds(value) {
  if (value >= 1000) return withUnit(value / 1000, "s", 1);
  return withUnit(value, "ms", value >= 10 ? 0 : 1);
}

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

/** Bytes as people read them. @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes}${UNIT}B`;
  let value = bytes;
  for (const unit of ["kB", "MB", "GB", "TB"]) {
    value /= 1000;
    if (value < 999.5 || unit === "TB") {
      return withUnit(value, unit, value < 100 && unit !== "kB" ? 1 : 0);
    }
  }
  return "";
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

/** The end of an id, as people read it out. @param {string} identifier */
export function tail(identifier) {
  if (identifier.startsWith("sha256:")) return identifier.slice(7, 13);
  const last = identifier.slice(identifier.lastIndexOf("_") + 1).slice(-6);
  return (identifier.length > 6 ? "…" : "") + last;
}

/** `1 camera`, `6 cameras`. @param {number} count @param {string} one @param {string} [many] */
export function counted(count, one, many) {
  return `${number(count)} ${count === 1 ? one : (many ?? one + "s")}`;
}
