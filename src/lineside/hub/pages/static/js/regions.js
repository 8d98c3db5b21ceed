// @ts-check
/** Draw regions on a picture with mouse or keyboard; the TOML for the plant file stands beside. */
import { make } from "./dom.js";
import { RegionForm } from "./regions_form.js";
import { freeId, moved, resized, tidy, toml } from "./regions_model.js";

/** @typedef {import("./regions_model.js").Region} Region */

const root = /** @type {HTMLElement} */ (document.querySelector("[data-regions]"));
const place = /** @type {HTMLElement} */ (root.querySelector("[data-drawing]"));
const canvas = /** @type {HTMLCanvasElement} */ (place.querySelector("canvas"));
const undoButton = /** @type {HTMLButtonElement} */ (root.querySelector("[data-undo]"));
const said = root.querySelector("[data-said]");

/** @type {Region[]} */
let regions = JSON.parse(root.dataset.start ?? "[]");
/** @type {Region[][]} */
const before = [];
let chosen = "";
let size = { width: 320, height: 240 };
const form = new RegionForm(root, change, remove);

/** @param {Region[]} next @param {boolean} [keep] whether undo can come back here */
function set(next, keep = true) {
  if (keep) before.push(regions);
  regions = next;
  undoButton.disabled = !before.length;
  show();
}

/** @param {string} id @param {Partial<Region>} changed */
function change(id, changed) {
  if (changed.id && changed.id !== id && regions.some((one) => one.id === changed.id)) {
    return say(`${changed.id} is taken.`);
  }
  if (changed.box) changed.box = tidy(changed.box, size);
  if (chosen === id && changed.id) chosen = changed.id;
  set(regions.map((one) => (one.id === id ? { ...one, ...changed } : one)));
}

/** @param {string} id */
function remove(id) {
  chosen = "";
  set(regions.filter((one) => one.id !== id));
  say(`${id} deleted.`);
  place.querySelector("button")?.focus();
}

/** @param {number[]} box */
function add(box) {
  const id = freeId(regions);
  chosen = id;
  const like = regions.at(-1);
  const answers = like ? { label: like.label && id, classes: like.classes } : { label: id, classes: [] };
  set([...regions, { id, ...answers, box: tidy(box, size) }]);
  say(`${id} added.`);
}

/** @param {string} text */
function say(text) {
  if (said) said.textContent = text;
}

/** Buttons keep their identity while their box changes, so focus and drags survive. */
function show() {
  const standing = new Map([...place.querySelectorAll("button")].map((one) => [one.dataset.id ?? "", one]));
  for (const [id, button] of standing) if (!regions.some((one) => one.id === id)) button.remove();
  for (const { id, box, label, classes } of regions) {
    const button = standing.get(id) ?? makeButton(id);
    const [x0, y0, x1, y1] = box;
    button.style.left = `${(x0 / size.width) * 100}%`;
    button.style.top = `${(y0 / size.height) * 100}%`;
    button.style.width = `${((x1 - x0) / size.width) * 100}%`;
    button.style.height = `${((y1 - y0) / size.height) * 100}%`;
    button.setAttribute("aria-pressed", String(id === chosen));
    button.setAttribute("aria-label", `Region ${id}, ${classes.join(", ") || label}, ${box.join(" ")}`);
  }
  form.show(regions.find((one) => one.id === chosen));
  const text = root.querySelector("[data-toml]");
  if (text) text.textContent = toml(regions, size);
}

/** @param {string} id */
function makeButton(id) {
  const button = /** @type {HTMLButtonElement} */ (make("button", { class: "region", type: "button" }, make("span", {}, id), make("i")));
  button.dataset.id = id;
  button.setAttribute("aria-describedby", "region-keys");
  button.addEventListener("focus", () => choose(id));
  button.addEventListener("keydown", (event) => keys(event, id));
  button.addEventListener("pointerdown", (event) => drag(event, id));
  place.append(button);
  return button;
}

/** @param {string} id */
function choose(id) {
  if (chosen === id) return;
  chosen = id;
  show();
}

/** @param {PointerEvent | MouseEvent} event */
function at(event) {
  const box = canvas.getBoundingClientRect();
  const scale = size.width / box.width;
  return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
}

/** @param {KeyboardEvent} event @param {string} id */
function keys(event, id) {
  const region = regions.find((one) => one.id === id);
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const step = steps[/** @type {keyof typeof steps} */ (event.key)];
  if (event.key === "Delete" || event.key === "Backspace") remove(id);
  else if (!region || !step) return;
  else {
    const by = event.shiftKey ? 10 : 1;
    const shift = event.altKey ? resized : moved;
    change(id, { box: shift(region.box, step[0] * by, step[1] * by, size) });
  }
  event.preventDefault();
}

/** @param {PointerEvent} down @param {string} id */
function drag(down, id) {
  const region = regions.find((one) => one.id === id);
  if (!region) return;
  const shift = /** @type {HTMLElement} */ (down.target).tagName === "I" ? resized : moved;
  const from = at(down);
  follow(down, (now, first) => {
    const box = shift(region.box, now.x - from.x, now.y - from.y, size);
    set(regions.map((one) => (one.id === id ? { ...one, box } : one)), first);
  });
}

/** @param {PointerEvent} down @param {(now: {x: number, y: number}, first: boolean) => void} step @param {() => void} [end] */
function follow(down, step, end) {
  let first = true;
  const move = (/** @type {PointerEvent} */ event) => {
    step(at(event), first);
    first = false;
  };
  addEventListener("pointermove", move);
  const stop = () => {
    removeEventListener("pointermove", move);
    end?.();
  };
  addEventListener("pointerup", stop, { once: true });
}

canvas.addEventListener("pointerdown", (down) => {
  const from = at(down);
  let to = from;
  follow(
    down,
    (now) => (to = now),
    () => Math.abs(to.x - from.x) > 3 && Math.abs(to.y - from.y) > 3 && add([from.x, from.y, to.x, to.y]),
  );
});
root.querySelector("[data-add]")?.addEventListener("click", () => {
  const [x, y] = [size.width * 0.4, size.height * 0.4];
  add([x, y, x + size.width * 0.2, y + size.height * 0.2]);
  /** @type {HTMLElement | undefined} */ ([...place.querySelectorAll("button")].at(-1))?.focus();
});
undoButton.addEventListener("click", () => {
  regions = before.pop() ?? regions;
  undoButton.disabled = !before.length;
  show();
});

/** @param {Blob} blob */
async function load(blob) {
  const picture = await createImageBitmap(blob).catch(() => null);
  if (!picture) return say("This file is no picture that can be read: choose a JPEG or PNG.");
  size = { width: picture.width, height: picture.height };
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d")?.drawImage(picture, 0, 0);
  say(`${picture.width} x ${picture.height} px.`);
  regions = regions.map((one) => ({ ...one, box: tidy(one.box, size) }));
  show();
}

/** @param {string} address */
async function fetchPicture(address) {
  const response = await fetch(address).catch(() => null);
  if (response?.ok) await load(await response.blob());
  else say("The picture is not there any more; choose a file.");
}

root.querySelector("[data-file]")?.addEventListener("change", (event) => {
  const file = /** @type {HTMLInputElement} */ (event.target).files?.[0];
  if (file) void load(file);
});
root.querySelector("[data-newest]")?.addEventListener("change", (event) => {
  const frame = /** @type {HTMLSelectElement} */ (event.target).value;
  if (frame) void fetchPicture(`/api/v1/frames/${frame}/picture`);
});
if (root.dataset.picture) void fetchPicture(root.dataset.picture);
else [canvas.width, canvas.height] = [size.width, size.height];
show();
