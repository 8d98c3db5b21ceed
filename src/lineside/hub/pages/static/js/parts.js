// @ts-check
/** Parts of a page that the server renders anew, and where they stand in the page. */
import { become } from "./dom.js";
import { ask } from "./forms.js";
import { tellTimes } from "./time.js";

/** What the server rendered, escaped there. @param {string} html */
export function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

/** @param {string} address @returns {Promise<DocumentFragment | null>} null where the hub refuses or does not answer */
export async function fragment(address) {
  const response = await ask(address);
  const text = response.ok ? await response.text().catch(() => null) : null; // the hub ended meanwhile
  return text === null ? null : parsed(text);
}

/** Addresses of the parts of this page that the live socket keeps as they are now. */
export function liveParts() {
  return [...document.querySelectorAll("[data-live-part]")].map((one) => one.getAttribute("data-live-part") ?? "");
}

/** A part that came by the live socket. @param {{href: string, html: string}} header */
export function showPart(header) {
  const root = document.querySelector(`[data-live-part="${CSS.escape(header.href)}"]`);
  if (root) takeOver(root, parsed(header.html));
  tellTimes();
}

/** Each element with `data-part` takes over the fresh one of that name. @param {Element} root @param {ParentNode} fresh */
export function takeOver(root, fresh) {
  for (const part of root.querySelectorAll("[data-part]")) {
    const next = fresh.querySelector(`[data-part="${CSS.escape(part.getAttribute("data-part") ?? "")}"]`);
    if (next) become(part, next);
  }
}
