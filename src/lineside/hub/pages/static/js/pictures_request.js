// @ts-check
/** Requests for pictures that were chosen, or for all that pass the page's filter. */

/** The filter of an address as the API's body takes it. @param {string} query */
export function filterOf(query) {
  /** @type {Record<string, any>} */
  const found = {};
  for (const [name, value] of new URLSearchParams(query)) {
    if (["camera", "verdict", "frame"].includes(name)) (found[name] ??= []).push(value);
    else found[name] = value;
  }
  return found;
}

/** What is sent for a choice. @param {string[]} chosen @param {string | null} all the filter, where all that passes it is meant */
export function bodyOf(chosen, all) {
  return all === null ? { frames: chosen } : { where: filterOf(all) };
}

/** The address of a file. @param {string} form @param {string[]} chosen @param {string | null} all */
export function fileOf(form, chosen, all) {
  const query = new URLSearchParams(all ?? chosen.map((one) => ["frame", one]));
  query.append("format", form);
  return `/api/v1/frames/export?${query}`;
}
