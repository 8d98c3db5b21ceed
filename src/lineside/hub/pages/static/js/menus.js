// @ts-check
/** Menus of labels: what is chosen stands in the summary, what is typed narrows the list. */

/** Show only the elements whose text holds what was typed. @param {Iterable<HTMLElement>} elements @param {string} typed */
export function narrow(elements, typed) {
  const wanted = typed.trim().toLowerCase();
  for (const one of elements) one.hidden = !(one.dataset.name ?? one.textContent ?? "").toLowerCase().includes(wanted);
}

/** @param {Event} event @returns {HTMLElement | null} */
const menuOf = (event) => (event.target instanceof Element ? event.target.closest("[data-menu]") : null);

/** @param {HTMLElement} menu */
function close(menu) {
  const details = menu.querySelector("details");
  if (!details?.open) return;
  details.open = false;
  details.querySelector("summary")?.focus();
}

/** @param {Event} event */
function find(event) {
  const menu = menuOf(event);
  const field = /** @type {HTMLInputElement} */ (event.target);
  if (!menu || !field.matches("[data-find]")) return;
  narrow(menu.querySelectorAll("label"), field.value);
  for (const group of menu.querySelectorAll("fieldset")) group.hidden = !group.querySelector("label:not([hidden])");
}

/** @param {Event} event */
function choose(event) {
  const menu = menuOf(event);
  const field = /** @type {HTMLInputElement} */ (event.target);
  const chosen = menu?.querySelector("[data-picked]");
  if (chosen && field.matches("[type=radio]")) chosen.textContent = field.value || (field.labels?.[0]?.textContent ?? "");
}

/** Enter chooses, or takes the first that was found; Escape leaves. @param {KeyboardEvent} event */
function press(event) {
  const menu = menuOf(event);
  if (!menu?.querySelector("details[open]") || !["Enter", "Escape"].includes(event.key)) return;
  const field = /** @type {HTMLElement} */ (event.target);
  if (field.matches("summary")) return;
  event.preventDefault();
  if (event.key === "Enter" && field.matches("[data-find]")) {
    /** @type {HTMLElement | null} */ (menu.querySelector("label:not([hidden]) [type=radio]"))?.click();
  }
  close(menu);
}

if (typeof document !== "undefined") {
  document.addEventListener("input", find);
  document.addEventListener("change", choose);
  document.addEventListener("keydown", press);
  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll("[data-menu] > details[open]")) {
      const chose = event.target instanceof HTMLInputElement && event.target.type === "radio" && event.detail > 0;
      if (!open.contains(/** @type {Node} */ (event.target)) || chose) /** @type {HTMLDetailsElement} */ (open).open = false;
    }
  });
}
