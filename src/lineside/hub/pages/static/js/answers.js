// @ts-check
/** What a prediction says, in a few words; `hub/pages/views/answers.py` says it alike. */

/** @typedef {{name: string, region: string, label: string, probability: number, decision: string}} Answer */
/** @typedef {{region: string, label: string, probability: number, decision: string, classes: number}} Said */

/** One answer a region: the label that holds, or the likeliest unsure one. @param {any} prediction @returns {Said[]} */
export function saidOf(prediction) {
  /** @type {Map<string, Answer[]>} */
  const groups = new Map();
  for (const answer of /** @type {Answer[]} */ (prediction.labels)) {
    const key = answer.region || answer.name;
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
  const said = saidOf(prediction);
  const held = said.filter((one) => one.decision === "present");
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

/** How many regions are unsure. @param {any} prediction */
export function unsureCount(prediction) {
  return saidOf(prediction).filter((one) => one.decision === "unsure").length;
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
