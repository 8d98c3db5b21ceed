// @ts-check
/** What is new on the page of what rules said, and how its parts are read anew. */
import { ask } from "./forms.js";

/** Ids that are fresh, in order. @param {string[]} fresh @param {string[]} standing */
export function news(fresh, standing) {
  const known = new Set(standing);
  return fresh.filter((one) => !known.has(one));
}

/** Which rules said more than was known. @param {Record<string, number>} before @param {Record<string, number>} now */
export function saidMore(before, now) {
  return Object.keys(now).some((rule) => rule in before && now[rule] !== before[rule]);
}

/** @param {string} address @returns {Promise<DocumentFragment | null>} */
export async function fragment(address) {
  const response = await ask(address);
  if (!response.ok) return null;
  const template = document.createElement("template");
  template.innerHTML = await response.text(); // the hub's own page, escaped there
  return template.content;
}

/** @param {Element[]} rows */
export function ids(rows) {
  return rows.map((row) => row.getAttribute("data-event") ?? "");
}
