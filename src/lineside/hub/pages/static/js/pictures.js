// @ts-check
/** The gallery of pictures: what the address of its filter carries, arrow keys between pictures. */

/** The place to go to from `index` by a key in rows of `columns`; the same where there is none. @param {string} key @param {number} index @param {number} columns @param {number} count */
export function neighbour(key, index, columns, count) {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key] ?? 0;
  const next = key === "Home" ? 0 : key === "End" ? count - 1 : index + step;
  return next >= 0 && next < count ? next : index;
}

/** The fields that submit a form of filters, whose address carries what is set. @param {HTMLFormElement} form */
export function wireFilters(form) {
  form.addEventListener("submit", () => {
    for (const one of form.elements) {
      const input = /** @type {HTMLInputElement} */ (one);
      if (input.name && input.value === "") input.disabled = true;
    }
  });
  for (const select of document.querySelectorAll("[data-submits]")) {
    select.addEventListener("change", () => form.requestSubmit());
  }
  addEventListener("pageshow", () => {
    for (const one of form.elements) /** @type {HTMLInputElement} */ (one).disabled = false;
  });
}

/** @param {HTMLElement} gallery */
function wireKeys(gallery) {
  const links = /** @type {HTMLElement[]} */ ([...gallery.querySelectorAll("li > a")]);
  gallery.addEventListener("keydown", (event) => {
    const index = links.indexOf(/** @type {HTMLElement} */ (event.target));
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = getComputedStyle(gallery).gridTemplateColumns.split(" ").length;
    const next = neighbour(event.key, index, columns, links.length);
    if (next === index) return;
    event.preventDefault();
    links[next].focus();
  });
}

if (typeof document !== "undefined") {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("#filters"));
  const gallery = /** @type {HTMLElement | null} */ (document.querySelector("[data-gallery]"));
  if (form) wireFilters(form);
  if (gallery) wireKeys(gallery);
}
