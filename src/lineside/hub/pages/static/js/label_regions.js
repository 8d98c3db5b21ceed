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

/** What is drawn of the regions. */
export class RegionLayer {
  constructor() {
    /** @type {Outlines | null} */
    this.outlines = null;
    /** Id of the region that stands out. */
    this.region = "";
    /** @type {{picture: ImageBitmap | null, registration: Record<string, any>}} of the picture that a package looked at */
    this.registered = { picture: null, registration: NOT_REGISTERED };
  }

  /** The region that stands out, on the reference view. */
  get box() {
    return this.outlines?.regions.find((one) => one.id === this.region)?.box ?? null;
  }

  /** Take over where a package found the regions. @param {Record<string, any>} prediction @param {ImageBitmap | null} picture */
  register({ inspection, registration }, picture) {
    if (inspection === this.outlines?.inspection) this.registered = { picture, registration };
  }

  /** @param {Annotation} one @param {ImageBitmap | null} picture */
  overlay(one, picture) {
    if (!picture || !this.outlines) return null;
    return overlayOf(this.outlines, one, this.registered.picture === picture ? this.registered.registration : NOT_REGISTERED);
  }
}

/** The menu of inspections with regions; the region whose menu has the focus stands out. @param {Work} work @param {HTMLElement} root @param {Outlines[]} listed */
export function wireRegions(work, root, listed) {
  const layer = work.view.regions;
  const menu = /** @type {HTMLSelectElement | null} */ (root.querySelector("[data-outlines]"));
  menu?.addEventListener("change", () => {
    layer.outlines = listed.find((one) => one.inspection === menu.value) ?? null;
    work.draw();
  });
  layer.outlines = listed[0] ?? null;
  for (const select of /** @type {NodeListOf<HTMLSelectElement>} */ (root.querySelectorAll("[data-region]"))) {
    const point = (/** @type {string} */ id) => {
      layer.region = id;
      work.draw();
    };
    select.addEventListener("focus", () => point(select.dataset.region ?? ""));
    select.addEventListener("blur", () => point(""));
  }
}
