// @ts-check
/** Try a picture: it goes to the hub, the answer stands on it, nothing is stored. */
import { answerText, markOf, saidOf } from "./answers.js";
import { make, mark } from "./dom.js";
import { milliseconds, number } from "./format.js";
import { ask, problemOf, showProblem } from "./forms.js";
import { layOver } from "./picture.js";

const form = /** @type {HTMLFormElement | null} */ (document.querySelector("[data-try-form]"));
const result = /** @type {HTMLElement} */ (document.querySelector("[data-result]"));

// Tasks whose networks say how far a picture is from those learned from, as in lineside.vision.
const DISTANCE_TASKS = ["multilabel", "classify", "segment"];

/** @type {Record<string, {shape: string, tone: string, word: string}>} */
const MARKS = {
  present: { shape: "dot", tone: "ink", word: "present" },
  absent: { shape: "ring", tone: "", word: "absent" },
  unsure: { shape: "triangle", tone: "warn", word: "unsure" },
};

/** @param {any} prediction */
function answerTable(prediction) {
  const head = ["Region", "Label", "Decision", "Probability"].map((name) => make("th", { scope: "col" }, name));
  const rows = prediction.labels.map((/** @type {any} */ one) =>
    make(
      "tr",
      {},
      make("td", {}, one.region || "whole picture"),
      make("th", { scope: "row" }, one.label),
      make("td", {}, mark(MARKS[one.decision])),
      make("td", { class: "number" }, number(one.probability, 3)),
    ),
  );
  const table = make(
    "table",
    {},
    make("caption", { class: "visually-hidden" }, "Every probability"),
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...rows),
  );
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Answers" }, table);
}

/** @param {any} prediction */
function distance({ task, state, health }) {
  if (!DISTANCE_TASKS.includes(task)) return `not measured: ${task} has none`;
  if (!health.feature_distance && state !== "ok") return "not measured: the picture was refused before";
  return `${number(health.feature_distance, 2)}, usual up to 1`;
}

/** @param {any} prediction */
function figures(prediction) {
  const { registration, health, latency_ms: times } = prediction;
  /** @type {[string, string][]} */
  const rows = [
    ["Registration", registration.reason || registration.state],
    ["Shift", `${number(registration.dx_px, 1)}, ${number(registration.dy_px, 1)} px`],
    ["Residual", `${number(registration.residual_px, 2)} px`],
    ["Sharpness", number(health.sharpness)],
    ["Mean grey", `${number(health.mean_grey)} of 255`],
    ["Feature distance", distance(prediction)],
    ["Time", milliseconds(times.total)],
  ];
  const list = make("dl", { class: "facts-list" });
  for (const [name, value] of rows) list.append(make("dt", {}, name), make("dd", {}, value));
  return list;
}

/** @param {HTMLElement} figure @param {Record<string, string>} heat label → PNG as data URL */
function heatChoice(figure, heat) {
  const select = make("select", { "aria-label": "Activation map" }, make("option", { value: "" }, "No activation map"));
  for (const name of Object.keys(heat)) select.append(make("option", { value: name }, `Why ${name}?`));
  select.addEventListener("change", () => {
    figure.querySelector("img.heat")?.remove();
    const chosen = heat[/** @type {HTMLSelectElement} */ (select).value];
    if (!chosen) return;
    figure.querySelector("img")?.after(make("img", { class: "heat", src: chosen, alt: "Where the network looked" }));
  });
  return select;
}

/** @param {any} tried @param {string} source @param {any} plan */
function show(tried, source, plan) {
  const { prediction, heat } = tried;
  const image = make("img", { src: source, alt: "The picture you chose" });
  const figure = make("figure", { class: "picture" }, image, make("canvas"));
  const title = make("p", { class: "row spread" }, make("b", {}, answerText(prediction)), mark(markOf("live", prediction, "")));
  const children = [figure, title];
  if (prediction.reason) children.push(make("p", { class: "note" }, prediction.reason));
  if (Object.keys(heat).length) children.push(heatChoice(figure, heat));
  if (saidOf(prediction).length) children.push(answerTable(prediction));
  result.replaceChildren(...children, figures(prediction));
  layOver(figure, prediction, plan);
}

async function send() {
  if (!form) return;
  form.querySelector(".problem")?.remove();
  const select = /** @type {HTMLSelectElement} */ (form.elements.namedItem("package"));
  const file = /** @type {HTMLInputElement} */ (form.elements.namedItem("picture")).files?.[0];
  if (!file) return;
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  button.disabled = true;
  const address = `/api/v1/packages/${encodeURIComponent(select.value)}/predict`;
  const headers = { "content-type": file.type || "application/octet-stream" };
  const response = await ask(address, { method: "POST", body: file, headers });
  button.disabled = false;
  if (!response.ok) return showProblem(form, await problemOf(response));
  const plan = JSON.parse(select.selectedOptions[0].dataset.plan ?? "null");
  show(await response.json(), URL.createObjectURL(file), plan);
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  void send();
});
