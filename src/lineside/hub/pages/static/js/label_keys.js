// @ts-check
/** Keys and buttons of the label page, by the name of what they do. */

/** @typedef {Record<string, () => void>} Actions */

const TOOLS = { v: "select", r: "box", p: "point", g: "polygon", b: "brush", e: "erase" };
const KEYS = {
  "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", "0": "whole", "[": "thinner", "]": "thicker",
  n: "next", N: "before", PageDown: "next", PageUp: "before", s: "suggest", a: "accept", c: "copy",
  k: "check", d: "discuss", Delete: "delete", Backspace: "delete",
}; // prettier-ignore

/** What a key does, or "" for nothing. @param {{key: string, ctrlKey?: boolean, metaKey?: boolean, shiftKey?: boolean, altKey?: boolean}} event */
export function actionOf(event) {
  const letter = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (letter === "z") return event.shiftKey ? "redo" : "undo";
    return letter === "y" ? "redo" : "";
  }
  if (event.altKey) return "";
  if (/^[1-9]$/.test(event.key)) return `label-${event.key}`;
  const tool = TOOLS[/** @type {keyof typeof TOOLS} */ (letter)];
  return KEYS[/** @type {keyof typeof KEYS} */ (event.key)] ?? (tool ? `tool-${tool}` : "");
}

/** Whether keys belong to the element that has the focus. @param {EventTarget | null} target */
function writes(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName) || (target instanceof HTMLInputElement && target.type !== "range"));
}

/** @param {HTMLElement} root @param {Actions} actions @param {(tool: string) => void} use @param {(place: number) => void} label */
export function wireKeys(root, actions, use, label) {
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-do]"))) {
    button.addEventListener("click", () => actions[button.dataset.do ?? ""]?.());
  }
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-tool]"))) {
    button.addEventListener("click", () => use(button.dataset.tool ?? ""));
  }
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || writes(event.target) || document.querySelector("dialog[open]")) return;
    const action = actionOf(event);
    if (action.startsWith("tool-")) use(action.slice(5));
    else if (action.startsWith("label-")) label(Number(action.slice(6)) - 1);
    else if (actions[action]) actions[action]();
    else return;
    event.preventDefault();
  });
}
