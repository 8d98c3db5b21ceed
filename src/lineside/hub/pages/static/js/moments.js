// @ts-check
/** Fields of a moment: the reader's clock in the field, the instant in what is sent. */
import { zoneAt } from "./time.js";

/** What `datetime-local` takes, in the reader's own time. @param {string} iso */
export function localValue(iso) {
  const at = new Date(iso);
  if (!iso || Number.isNaN(at.getTime())) return "";
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Say the zone of a field's time beside the field. @param {HTMLInputElement} input */
export function tellZone(input) {
  const zone = input.closest("label")?.querySelector("[data-zone]");
  if (zone) zone.textContent = zoneAt(input.value ? new Date(input.value) : new Date());
}

/** A field of a time says its zone; as `data-moment` it shows and sets the hidden field of that name. An instant stays exact until somebody changes it. */
export function wireMoments(/** @type {ParentNode} */ root = document) {
  for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (root.querySelectorAll("[type=datetime-local]"))) {
    const kept = /** @type {HTMLInputElement | null | undefined} */ (input.form?.elements.namedItem(input.dataset.moment ?? ""));
    if (kept) input.value = localValue(kept.value);
    tellZone(input);
    input.addEventListener("input", () => {
      if (kept) kept.value = input.value ? new Date(input.value).toISOString() : "";
      tellZone(input);
    });
  }
}
