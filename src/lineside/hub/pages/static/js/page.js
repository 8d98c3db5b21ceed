// @ts-check
/** What every page does: times in the reader's clock, the search key, forms that speak JSON. */
import { wireForms } from "./forms.js";
import "./menus.js";
import { wireMoments } from "./moments.js";
import { tellTimes } from "./time.js";

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
wireMoments();
wireSearchKey();
wireTabs();
wireForms();
