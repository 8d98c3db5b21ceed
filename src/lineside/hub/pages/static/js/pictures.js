// @ts-check
/** The gallery of pictures: local times in the filter, arrow keys between pictures. */

/** What `datetime-local` takes, in the reader's own time. @param {string} iso */
export function localValue(iso) {
  const at = new Date(iso);
  if (!iso || Number.isNaN(at.getTime())) return "";
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** The place to go to from `index` by a key in rows of `columns`; the same where there is none. @param {string} key @param {number} index @param {number} columns @param {number} count */
export function neighbour(key, index, columns, count) {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key] ?? 0;
  const next = key === "Home" ? 0 : key === "End" ? count - 1 : index + step;
  return next >= 0 && next < count ? next : index;
}

/** Local times and the fields that submit a form of filters. @param {HTMLFormElement} form */
export function wireFilters(form) {
  const field = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
  for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (form.querySelectorAll("[data-moment]"))) {
    const kept = field(input.dataset.moment ?? "");
    input.value = localValue(kept.value);
    input.addEventListener("change", () => {
      kept.value = input.value ? new Date(input.value).toISOString() : "";
    });
  }
  form.addEventListener("submit", () => {
    for (const one of form.elements) {
      const input = /** @type {HTMLInputElement} */ (one);
      if (input.name && input.value === "") input.disabled = true; // the address carries what is set
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
