// @ts-check
/** The label page: opens pictures, connects tools, list, rail and saving, and takes the keys. */
import { ask, problemOf } from "./forms.js";
import { Aid } from "./label_aid.js";
import { Cursor } from "./label_cursor.js";
import { Dispute } from "./label_dispute.js";
import { wireKeys } from "./label_keys.js";
import { ShapeList } from "./label_list.js";
import { changedMark, without } from "./label_model.js";
import { Rail } from "./label_rail.js";
import { wireRegions } from "./label_regions.js";
import { Strip } from "./label_strip.js";
import { Sync } from "./label_sync.js";
import { Tools } from "./label_tools.js";
import { View } from "./label_view.js";
import { Work } from "./label_work.js";

const root = /** @type {HTMLElement} */ (document.querySelector("[data-label]"));
const canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas"));
const start = JSON.parse(root.dataset.start ?? "{}");
const address = `/api/v1/datasets/${encodeURIComponent(start.dataset)}/samples`;
const work = new Work(new View(canvas), "asks" in root.dataset);
const sync = new Sync(work, address, root);
const tools = new Tools(work, canvas, say);
const rail = new Rail(work, root, address);
const list = new ShapeList(work, root, () => shapeNames());
const aid = new Aid(work, root, say);
const dispute = new Dispute(work, root, address);
const strip = new Strip(root, start, address, (digest) => void leave(() => open(digest)));
const names = /** @type {HTMLSelectElement} */ (root.querySelector("[data-shape-label]"));
const size = /** @type {HTMLInputElement} */ (root.querySelector("[data-size]"));
const cursor = new Cursor(work, tools, canvas);

/** @param {string} text */
function say(text) {
  const box = root.querySelector("[data-said]");
  if (box) box.textContent = text;
}

/** @returns {string[]} */
function shapeNames() {
  return [...names.options].map((one) => one.value);
}

function show() {
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-tool]"))) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === work.tool));
  }
  const undo = /** @type {HTMLButtonElement | null} */ (root.querySelector("[data-do=undo]"));
  const redo = /** @type {HTMLButtonElement | null} */ (root.querySelector("[data-do=redo]"));
  if (undo) undo.disabled = !work.history.past.length && !work.drawn.length;
  if (redo) redo.disabled = !work.history.future.length;
  for (const part of [rail, list, aid, dispute]) part.show();
  work.draw();
}

/** Leave the picture for another one; until that is there nothing is changed. @param {() => Promise<unknown>} way */
async function leave(way) {
  if (work.opening) return;
  if (tools.held) return say("Finish what you are drawing first.");
  cursor.rest();
  work.opening = true;
  root.setAttribute("aria-busy", "true");
  await way().finally(() => {
    work.opening = false;
    root.removeAttribute("aria-busy");
  });
}

/** @param {string} digest */
async function open(digest) {
  if (!(await sync.settled())) return say("The last change is not saved yet.");
  const answer = await ask(`${address}/${digest}`);
  if (!answer.ok) return say(Object.values(await problemOf(answer)).join(". "));
  const sample = await answer.json();
  const bytes = await ask(sample.picture);
  const picture = bytes.ok ? await createImageBitmap(await bytes.blob()).catch(() => null) : null;
  if (!picture) return say("The picture cannot be read.");
  if (!(await sync.settled())) return say("The last change is not saved yet.");
  aid.leave();
  if (work.sample) strip.left(work.sample.digest, work.sample.state);
  work.open(sample, picture);
  history.replaceState(null, "", strip.hrefOf(digest));
  const title = root.querySelector("[data-title]");
  if (title) title.textContent = `${sample.name}, ${sample.width_px} x ${sample.height_px} px`;
  strip.show(digest, sample.state);
}

/** @param {number} by */
async function go(by) {
  await sync.settled();
  const row = await strip.neighbour(work.sample?.digest, by);
  if (row) return open(row.digest);
  if (by < 0) return say("This is the first picture here.");
  const left = await strip.firstLeft();
  if (!left || left === work.sample?.digest) return say(left ? "Only this picture is left to label." : "This is the last picture.");
  if (strip.place(left) < 0) return location.assign(strip.hrefOf(left));
  say("Back at the first picture that is left to label.");
  await open(left);
}

/** A digit relabels what is selected, or says the label of what is drawn next, or of the picture. @param {number} n */
function label(n) {
  if (work.opening) return say("The picture is still loading: nothing was changed.");
  if (!work.may) return;
  const drawing = ["box", "point"].includes(work.tool);
  const name = rail.names[n];
  if (!name) return;
  const drawn = drawing || work.selected?.kind === "mark";
  if (drawn && !shapeNames().includes(name)) return say(`${name} means a good part: choose another label for a shape.`);
  if (work.selected?.kind === "mark") work.change(changedMark(work.now, work.selected.n, { label: name }));
  else if (!drawing) return rail.toggle(name);
  [names.value, work.label] = [name, name];
  say(`Label ${name}.`);
}

/** @param {number} radius */
function thick(radius) {
  work.radius = Math.max(1, Math.min(Number(size.max), radius));
  size.value = String(work.radius);
  work.draw();
}

/** @param {number} factor */
function zoom(factor) {
  work.view.zoomBy(factor, work.cursor ?? undefined);
  work.draw();
}

const writing = {
  undo: () => work.undo(), redo: () => work.redo(), suggest: () => void aid.suggest(), accept: () => aid.take(),
  copy: () => aid.copyBefore(), thinner: () => thick(work.radius - 1), thicker: () => thick(work.radius + 1),
  check: () => rail.state("checked"), discuss: () => rail.state("discuss"),
  delete: () => work.selected && work.change(without(work.now, work.selected)),
}; // prettier-ignore
const looking = {
  "zoom-in": () => zoom(1.25), "zoom-out": () => zoom(0.8), whole: () => zoom(0),
  next: () => void leave(() => go(1)), before: () => void leave(() => go(-1)),
}; // prettier-ignore
work.onShow = show;
work.onChange = () => void sync.save();
work.settled = () => sync.settled();
work.label = names.value;
names.addEventListener("change", () => (work.label = names.value));
size.addEventListener("input", () => thick(Number(size.value)));
addEventListener("resize", () => work.draw());
wireKeys(root, work.writes ? { ...looking, ...writing } : looking, (tool) => work.writes && work.use(tool), label);
wireRegions(work, root, start.outlines);
if (start.digest) void leave(() => open(start.digest));
