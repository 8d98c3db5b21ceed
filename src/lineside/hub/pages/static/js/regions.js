// @ts-check
/** Draw regions on a picture with mouse or keyboard; the TOML for the plant file stands beside. */
import { Buttons, follow } from "./regions_buttons.js";
import { RegionForm } from "./regions_form.js";
import { freeId, plantValues, tidy, toml } from "./regions_model.js";

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
const buttons = new Buttons(place, canvas, { box: setBox, remove, choose });

/** @param {Region[]} next @param {boolean} keep whether undo can come back here */
function set(next, keep = true) {
  if (keep) before.push(regions);
  regions = next;
  undoButton.disabled = !before.length;
  show();
}

function show() {
  buttons.show(regions, size, chosen);
  form.show(regions.find((one) => one.id === chosen));
  const text = root.querySelector("[data-toml]");
  if (text) text.textContent = toml(regions, size);
  root.dataset.values = JSON.stringify(plantValues(regions, size));
}

/** @param {string} text */
function say(text) {
  if (said) said.textContent = text;
}

/** @param {string} id */
function choose(id) {
  if (chosen === id) return;
  chosen = id;
  show();
}

/** @param {string} id @param {number[]} box @param {boolean} keep */
function setBox(id, box, keep) {
  set(regions.map((one) => (one.id === id ? { ...one, box } : one)), keep);
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

/** A new region answers like the last one: racks have many alike. @param {number[]} box */
function add(box) {
  const id = freeId(regions);
  const like = regions.at(-1);
  const classes = like?.classes ?? [];
  chosen = id;
  set([...regions, { id, label: classes.length ? "" : id, classes, box: tidy(box, size) }]);
  say(`${id} added.`);
  buttons.place.querySelector(`[data-id="${CSS.escape(id)}"]`)?.scrollIntoView({ block: "nearest" });
}

canvas.addEventListener("pointerdown", (down) => {
  const from = buttons.at(down);
  let to = from;
  const drawn = () => Math.abs(to.x - from.x) > 3 && Math.abs(to.y - from.y) > 3;
  follow(
    (event) => (to = buttons.at(event)),
    () => drawn() && add([from.x, from.y, to.x, to.y]),
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
