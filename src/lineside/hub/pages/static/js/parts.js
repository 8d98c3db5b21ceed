// @ts-check
/** Parts of a page that the server renders anew, and where they stand in the page. */
import { become } from "./dom.js";
import { ask } from "./forms.js";

/** What the server rendered, escaped there. @param {string} html */
export function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

/** @param {string} address @returns {Promise<DocumentFragment | null>} null where the hub refuses or does not answer */
export async function fragment(address) {
  const response = await ask(address);
  return response.ok ? parsed(await response.text()) : null;
}

/** Each element with `data-part` takes over the fresh one of that name. @param {Element} root @param {ParentNode} fresh */
export function takeOver(root, fresh) {
  for (const part of root.querySelectorAll("[data-part]")) {
    const next = fresh.querySelector(`[data-part="${CSS.escape(part.getAttribute("data-part") ?? "")}"]`);
    if (next) become(part, next);
  }
}
