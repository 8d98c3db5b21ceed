// @ts-check
/** Outlines of an inspection's regions on the picture, so that a person labels the right one. */

/** @typedef {{id: string, box: number[], names: string[]}} Region */
/** @typedef {{inspection: string, view: number[], regions: Region[]}} Outlines regions of an inspection on its reference view */
/** @typedef {import("./label_model.js").Annotation} Annotation */
/** @typedef {import("./label_work.js").Work} Work */

/** A picture of which nobody knows how the camera has moved is taken as the reference view. */
export const NOT_REGISTERED = { state: "none" };

/**
 * Draw each region with its id and what holds of it: solid where it was judged, else dashed.
 * @param {Outlines} outlines @param {Annotation} one @param {Record<string, any>} registration
 * @returns {import("./overlay.js").Overlay}
 */
export function overlayOf({ view, regions }, { labels, known }, registration) {
  const shapes = regions.map(({ id, box, names }) => {
    const held = names.find((name) => labels.includes(name));
    const judged = names.some((name) => labels.includes(name) || known?.includes(name));
    return { box, decision: judged ? "present" : "absent", text: held ? `${id} ${held.split("/").pop()}` : id };
  });
  return { view, registration, regions: shapes, objects: [], mask: null };
}

/** The menu of inspections with regions; the region whose menu has the focus stands out. @param {Work} work @param {HTMLElement} root @param {Outlines[]} listed */
export function wireRegions(work, root, listed) {
  const menu = /** @type {HTMLSelectElement | null} */ (root.querySelector("[data-outlines]"));
  const choose = () => {
    work.outlines = listed.find((one) => one.inspection === menu?.value) ?? null;
    work.draw();
  };
  menu?.addEventListener("change", choose);
  work.outlines = listed[0] ?? null;
  for (const select of /** @type {NodeListOf<HTMLSelectElement>} */ (root.querySelectorAll("[data-region]"))) {
    const point = (/** @type {string} */ id) => {
      work.region = id;
      work.draw();
    };
    select.addEventListener("focus", () => point(select.dataset.region ?? ""));
    select.addEventListener("blur", () => point(""));
  }
}
