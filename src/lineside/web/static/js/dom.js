// @ts-check
/** Small parts of a page made by script, and parts that the server made put in their places. */
import { moment } from "./time.js";

/**
 * @param {string} tag @param {Record<string, string>} [attributes] @param {(Node | string)[]} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A time that `page.js` keeps telling. @param {string | null} at @param {string} [show] */
export function when(at, show = "both") {
  if (!at) return make("span", { class: "muted" }, "never");
  return make("time", { datetime: at, "data-show": show }, moment(new Date(at), show, new Date()));
}

/** @param {{shape: string, tone: string, word: string}} said */
export function mark({ shape, tone, word }) {
  return make("span", { class: "state", "data-shape": shape, "data-tone": tone }, word);
}

/** Write text only where it changed, so that nothing flickers. @param {Element | null} element @param {string} text */
export function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** Replace children only where they changed. @param {Element | null} element @param {...(Node | string)} children */
export function fill(element, ...children) {
  if (!element) return;
  const fresh = /** @type {Element} */ (element.cloneNode(false));
  fresh.append(...children);
  become(element, fresh);
}

/**
 * Make a node like a fresh one and change only what differs, so that focus and selection stay. A
 * time that is the same goes on telling its age.
 * @param {Node} node @param {Node} fresh
 */
export function become(node, fresh) {
  if (node.nodeName !== fresh.nodeName) return void (/** @type {ChildNode} */ (node).replaceWith(fresh));
  if (!(node instanceof Element && fresh instanceof Element)) {
    if (node.nodeValue !== fresh.nodeValue) node.nodeValue = fresh.nodeValue;
    return;
  }
  const at = node.getAttribute("datetime");
  if (at && at === fresh.getAttribute("datetime")) return;
  for (const { name } of [...node.attributes]) if (!fresh.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  const children = [...fresh.childNodes];
  while (node.childNodes.length > children.length) node.lastChild?.remove();
  for (const [n, child] of children.entries()) {
    const old = node.childNodes[n];
    if (old) become(old, child);
    else node.append(child);
  }
}

/** A colour as the theme resolves it. @param {Element} near @param {string} name */
export function colour(near, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  near.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
