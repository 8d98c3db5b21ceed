// @ts-check
/** The time of the past that the Twin page shows: a slider, a field, and the address that carries it. */
import { localValue, tellZone } from "./moments.js";
import { wireFilters } from "./pictures.js";
import { dayTime } from "./time.js";

/** @param {HTMLFormElement} form @param {(at: string) => void} go */
export function wirePast(form, go) {
  const field = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form.querySelector(name));
  const [slide, moment, kept] = [field("[data-slide]"), field("[data-moment]"), field("[name=at]")];
  const goTo = (/** @type {Date} */ time) => {
    kept.value = time.toISOString();
    moment.value = localValue(kept.value);
    tellZone(moment);
    tell(slide, time);
    const links = /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("[data-keeps-time]"));
    for (const link of links) link.href = addressAt(link.href, kept.value);
    history.replaceState(null, "", addressAt(location.href, kept.value));
    go(kept.value);
  };
  wireFilters(form);
  tell(slide, new Date(kept.value));
  slide.addEventListener("input", () => goTo(new Date(Number(slide.value) * 1000)));
  moment.addEventListener("change", () => {
    const time = new Date(moment.value).getTime() / 1000;
    if (Number.isNaN(time)) return; // cleared: what is shown stays
    if (time < Number(slide.min) || time > Number(slide.max)) return; // sent, the hub says what there is
    slide.value = String(time);
    goTo(new Date(time * 1000));
  });
}

/** @param {HTMLInputElement} slide @param {Date} time */
function tell(slide, time) {
  slide.setAttribute("aria-valuetext", dayTime(time, new Date()));
}

/** @param {string} href @param {string} at */
function addressAt(href, at) {
  const address = new URL(href);
  address.searchParams.set("at", at);
  return address.href;
}
