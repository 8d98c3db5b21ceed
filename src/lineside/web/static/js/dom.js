// @ts-check
/** Small parts of a page made by script: the same as `templates/parts.html` makes. */
import { moment, tail } from "./format.js";

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

/** A link whose text is the end of an id, or the word none. @param {string} folder @param {string} id @param {string} [text] */
export function idLink(folder, id, text) {
  if (!id) return make("span", { class: "muted" }, "none");
  return make("a", { class: "id", href: `/${folder}/${encodeURIComponent(id).replaceAll("%3A", ":")}`, title: id }, text ?? tail(id));
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

/** @param {string} colour @param {string} [seen] */
export function piece(colour, seen = "present") {
  return make("span", { class: "piece", "data-colour": colour, "data-seen": seen });
}

/** Write text only where it changed, so that nothing flickers. @param {Element | null} element @param {string} text */
export function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** @type {WeakMap<Element, string>} what `fill` last put there */
const was = new WeakMap();

/** Replace children only where they changed. @param {Element | null} element @param {...(Node | string)} children */
export function fill(element, ...children) {
  if (!element) return;
  const fresh = make("div", {}, ...children);
  const said = fresh.innerHTML.replace(/(<time[^>]*>)[^<]*/g, "$1"); // a time tells its own age
  if (said === was.get(element)) return;
  was.set(element, said);
  element.replaceChildren(...fresh.childNodes);
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
