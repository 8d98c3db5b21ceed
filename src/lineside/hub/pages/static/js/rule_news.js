// @ts-check
/** What is new on the page of what rules said. */
/** Ids that are fresh, in order. @param {string[]} fresh @param {string[]} standing */
export function news(fresh, standing) {
  const known = new Set(standing);
  return fresh.filter((one) => !known.has(one));
}

/** Which rules said more than was known. @param {Record<string, number>} before @param {Record<string, number>} now */
export function saidMore(before, now) {
  return Object.keys(now).some((rule) => rule in before && now[rule] !== before[rule]);
}

/** @param {Element[]} rows */
export function ids(rows) {
  return rows.map((row) => row.getAttribute("data-event") ?? "");
}
