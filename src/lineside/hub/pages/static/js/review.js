// @ts-check
/** The review queue: an answer by one key, the next picture already loaded, undo, skip. */
import { ask, problemOf, showProblem } from "./forms.js";
import { drawing } from "./forms_said.js";
import { heatOver, wirePictures } from "./picture.js";

const GIVEN = "review-given"; // the items answered in this tab, the newest last
const DATASET = "review-dataset";
let busy = false;

/** @returns {string[]} */
function given() {
  return JSON.parse(sessionStorage.getItem(GIVEN) ?? "[]");
}

const remember = (/** @type {string[]} */ items) => sessionStorage.setItem(GIVEN, JSON.stringify(items.slice(-100)));

const root = () => /** @type {HTMLElement} */ (document.querySelector("[data-review]"));

/** @param {(string | Node)[]} words */
function say(...words) {
  document.querySelector("[data-said]")?.replaceChildren(...words);
}

/** @param {string} address reads the page there, and takes over what stands in it */
async function show(address) {
  const response = await ask(address);
  if (!response.ok) return location.assign(address);
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of ["[data-review]", "main > .head", "nav.nav"]) {
    const [old, now] = [document.querySelector(part), fresh.querySelector(part)];
    if (old && now) old.replaceWith(document.adoptNode(now));
  }
  history.replaceState(null, "", address);
  wire();
}

/** @param {string} item @param {string} what @param {object} body @param {(r: Response) => Promise<unknown>} refused @returns {Promise<any>} the item as it is then; null where it was refused */
async function send(item, what, body, refused) {
  if (busy) return null;
  busy = true;
  const response = await ask(`/api/v1/review/${item}/${what}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  busy = false;
  if (!response.ok) await refused(response);
  return response.ok ? await response.json() : null;
}

/** @param {string} answer */
async function give(answer) {
  const { item = "", here = "/review", settles, waits } = root().dataset;
  if (!item || !waits) return;
  const dataset = /** @type {HTMLSelectElement | null} */ (root().querySelector("[data-dataset]"))?.value ?? "";
  const after = await send(item, "answer", { answer, settles: settles === "yes", dataset }, async (response) => {
    const problem = await problemOf(response);
    if (response.status === 409) await show(here); // somebody else was first
    showProblem(root(), problem);
  });
  if (!after) return;
  remember([...given().filter((one) => one !== item), item]);
  await show(here);
  if (dataset) say(`Answered ${answer}, added to ${dataset}. `, drawing(dataset, after.finding?.frame));
  else say(`Answered ${answer}.`);
}

async function undo() {
  const items = given();
  const item = items.pop();
  if (!item) return;
  const back = await send(item, "undo", {}, async (response) => showProblem(root(), await problemOf(response)));
  remember(items);
  if (!back) return wire();
  const address = new URL(location.href);
  address.searchParams.set("item", item);
  await show(address.pathname + address.search);
  say("Answer taken back.");
}

async function toggleHeat() {
  const button = /** @type {HTMLElement | null} */ (document.querySelector("[data-heat]"));
  const figure = /** @type {HTMLElement | null} */ (document.querySelector("[data-overlay]"));
  if (!button || !figure) return;
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  const said = document.querySelector("[data-heat-said]");
  await heatOver(figure, on ? (button.dataset.heat ?? "") : "", (text) => said && (said.textContent = text));
}

/** The parts of the page that were written anew. */
function wire() {
  const place = root();
  wirePictures(place);
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll("[data-answer]"))) {
    button.addEventListener("click", () => void give(button.dataset.answer ?? ""));
  }
  const more = /** @type {HTMLFormElement | null} */ (place.querySelector("[data-more]"));
  more?.addEventListener("submit", (event) => {
    event.preventDefault();
    const answer = new FormData(more).get("answer");
    if (answer) void give(String(answer));
  });
  const back = /** @type {HTMLButtonElement | null} */ (place.querySelector("[data-undo]"));
  if (back) back.disabled = given().length === 0;
  back?.addEventListener("click", () => void undo());
  const skip = /** @type {HTMLAnchorElement | null} */ (place.querySelector("[data-skip]"));
  skip?.addEventListener("click", (event) => {
    event.preventDefault();
    void show(skip.href);
  });
  place.querySelector("[data-heat]")?.addEventListener("click", () => void toggleHeat());
  const dataset = /** @type {HTMLSelectElement | null} */ (place.querySelector("[data-dataset]"));
  if (dataset) dataset.value = [...dataset.options].find((one) => one.value === sessionStorage.getItem(DATASET))?.value ?? "";
  dataset?.addEventListener("change", () => sessionStorage.setItem(DATASET, dataset.value));
  const next = /** @type {HTMLElement | null} */ (place.querySelector("[data-preload]"));
  if (next) new Image().src = next.dataset.preload ?? "";
  const queue = /** @type {HTMLFormElement | null} */ (document.querySelector("[data-queue]"));
  for (const select of queue?.querySelectorAll("select") ?? []) {
    select.addEventListener("change", () => queue?.requestSubmit());
  }
}

/** @param {KeyboardEvent} event one that is held acts once: nobody looked at what comes up under it */
function press(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.matches("input:not([type=checkbox]), select, textarea");
  if (typing || event.altKey || event.metaKey) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey ? key === "z" : key === "u") {
    event.preventDefault();
    return event.repeat ? undefined : void undo();
  }
  if (event.ctrlKey) return;
  if (/^[1-9]$/.test(key)) {
    const button = /** @type {HTMLElement | undefined} */ (document.querySelectorAll("[data-answer]")[Number(key) - 1]);
    return event.repeat ? undefined : button?.click();
  }
  if (key === "h" && !event.repeat) return void toggleHeat();
  if (key === " " && !target.matches("button, a, [type=checkbox]")) {
    event.preventDefault();
    if (!event.repeat) /** @type {HTMLElement | null} */ (document.querySelector("[data-skip]"))?.click();
  }
}

addEventListener("keydown", press);
wire();
