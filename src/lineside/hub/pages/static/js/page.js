// @ts-check
/** What every page does: local times with their age, the search key, forms that speak JSON. */
import { moment } from "./time.js";
import { wireForms } from "./forms.js";

/** Write each <time> in the reader's own clock and, where asked, how long ago it was. */
export function tellTimes(root = document) {
  const now = new Date();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(at.getTime())) continue;
    const text = moment(at, element.getAttribute("data-show") ?? "both", now);
    if (element.textContent !== text) element.textContent = text;
    if (!element.hasAttribute("title")) element.setAttribute("title", at.toISOString());
  }
}

/** `/` goes to the search box unless the reader is writing. */
function wireSearchKey() {
  const box = /** @type {HTMLInputElement | null} */ (document.querySelector("#search"));
  addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
    event.preventDefault();
    box?.focus();
    box?.select();
  });
}

/** A checkbox named `data-show-toggle` shows and hides what it names. */
function wireTabs() {
  for (const button of document.querySelectorAll("[data-reveals]")) {
    button.addEventListener("click", () => {
      const shown = document.getElementById(button.getAttribute("data-reveals") ?? "");
      if (!shown) return;
      shown.hidden = !shown.hidden;
      button.setAttribute("aria-pressed", String(!shown.hidden));
    });
  }
}

tellTimes();
setInterval(tellTimes, 1000);
addEventListener("htmx:after:swap", () => tellTimes());
wireSearchKey();
wireTabs();
wireForms();
