// @ts-check
/** What a prediction says, in a few words; `web/answers.py` says it alike. */

/** @typedef {{name: string, region: string, label: string, probability: number, decision: string}} Answer */
/** @typedef {{region: string, label: string, probability: number, decision: string, classes: number}} Said */

/** One answer a region: the label that holds, or the likeliest unsure one. @param {any} prediction @returns {Said[]} */
export function saidOf(prediction) {
  /** @type {Map<string, Answer[]>} */
  const groups = new Map();
  for (const answer of /** @type {Answer[]} */ (prediction.labels)) {
    const key = answer.region || (prediction.task === "classify" ? "picture" : answer.name);
    groups.set(key, [...(groups.get(key) ?? []), answer]);
  }
  return [...groups].map(([region, answers]) => {
    const ordered = [...answers].sort((a, b) => b.probability - a.probability);
    const chosen =
      ordered.find((answer) => answer.decision === "present") ??
      ordered.find((answer) => answer.decision === "unsure") ??
      ordered[0];
    const { label, probability, decision } = chosen;
    return { region, label, probability, decision, classes: answers.length };
  });
}

/** `blue, red` for presence labels, `3 blue, 6 empty` for classes, or the picture's state. @param {any} prediction */
export function answerText(prediction) {
  if (prediction.state !== "ok") return prediction.state;
  const found = finding(prediction);
  if (found) return found;
  const said = saidOf(prediction);
  const held = said.filter((one) => one.decision === "present");
  if (prediction.task === "classify") return classText(prediction, held);
  if (said.some((one) => one.classes > 1)) {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const { label } of held) counts.set(label, (counts.get(label) ?? 0) + 1);
    const ordered = [...counts].sort((a, b) => b[1] - a[1]);
    return ordered.map(([label, n]) => `${n}\u00a0${label}`).join(", ") || "none sure";
  }
  if (held.length) return held.map((one) => one.label).join(", ");
  return unsureCount(prediction) ? "none sure" : "none";
}

/** `blue` where a class holds, `no blue` where it does not. @param {Said} said */
export function regionMark({ decision, label }) {
  if (decision === "unsure") return { shape: "triangle", tone: "warn", word: `${label}?` };
  if (decision === "present") return { shape: "dot", tone: "ink", word: label };
  return { shape: "ring", tone: "", word: `no ${label}` };
}

/** @param {any} prediction @param {Said[]} held */
function classText(prediction, held) {
  if (held.length) return held[0].label;
  const unsure = prediction.labels.filter((/** @type {Answer} */ one) => one.decision === "unsure");
  const ordered = unsure.sort((/** @type {Answer} */ a, /** @type {Answer} */ b) => b.probability - a.probability);
  return ordered.length ? `${ordered.map((/** @type {Answer} */ one) => one.label).join(" or ")}?` : "none";
}

/** What is said beside labels: a count, boxes, an anomaly, a mask. @param {any} prediction */
function finding(prediction) {
  const { count, anomaly, mask, boxes = [], labels } = prediction;
  if (count) return countText(count);
  if (anomaly) return anomalyText(anomaly);
  if (boxes.length || prediction.task === "detect") return boxesText(boxes);
  if (!mask) return "";
  const held = labels.filter((/** @type {Answer} */ one) => one.decision === "present");
  const unsure = labels.some((/** @type {Answer} */ one) => one.decision === "unsure");
  const share = `${(mask.share * 100).toFixed(2)}\u00a0%`;
  if (held.length) return `${held.map((/** @type {Answer} */ one) => one.label).join(", ")} on ${share}`;
  return unsure ? `unsure, ${share}` : "none";
}

/** `5`, `5 (4 to 6)` or `more than 8`. @param {{value: number, low: number, high: number, more: boolean}} count */
export function countText({ value, low, high, more }) {
  if (more) return value > high ? `more than ${high}` : `${low} or more`;
  return low === high ? String(value) : `${value} (${low} to ${high})`;
}

/** @type {Record<string, string>} */
const ANOMALY = { present: "differs from good parts", absent: "like good parts", unsure: "unsure" };

/** @param {{score: number, limit: number, decision: string}} anomaly */
function anomalyText({ score, limit, decision }) {
  return `${ANOMALY[decision]}, ${score.toFixed(2)} against ${limit.toFixed(2)}`;
}

/** @param {{label: string, decision: string}[]} boxes */
function boxesText(boxes) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { label, decision } of boxes) {
    if (decision === "present") counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  const unsure = boxes.filter((box) => box.decision === "unsure").length;
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${n}\u00a0${label}`);
  if (unsure) parts.push(`${unsure}\u00a0unsure`);
  return parts.join(", ") || "none";
}

/** How many answers are unsure: regions or labels, boxes, the count, the anomaly. @param {any} prediction */
export function unsureCount(prediction) {
  const { boxes = [], count, anomaly } = prediction;
  return [...saidOf(prediction), ...boxes, count, anomaly].filter((one) => one?.decision === "unsure").length;
}

/**
 * The state of a camera in shape and word; quiet when all is well.
 * @param {string} state @param {any} prediction @param {string} silent how long, in words
 */
export function markOf(state, prediction, silent) {
  if (state === "never") return { shape: "bar", tone: "warn", word: "no picture yet" };
  if (state === "no signal") return { shape: "bar", tone: "warn", word: `no signal for ${silent}` };
  if (!prediction) return { shape: "ring", tone: "", word: "live, nothing decides yet" };
  if (prediction.state !== "ok") return { shape: "square", tone: "bad", word: prediction.state };
  if (unsureCount(prediction)) return { shape: "triangle", tone: "warn", word: "unsure" };
  return { shape: "ring", tone: "", word: "running" };
}

/** `6 cameras, all live`; never claims more than the tiles show. @param {string[]} states */
export function summary(states) {
  const live = states.filter((state) => state === "live").length;
  const text = states.length === 1 ? "1 camera" : `${states.length} cameras`;
  if (!states.length) return "no cameras";
  if (live === states.length) return `${text}, ${live > 1 ? "all " : ""}live`;
  return states.length > 1 ? `${text}, ${states.length - live} without signal` : `${text}, without signal`;
}
