// @ts-check
/** Line charts over time by uPlot, in the page's colours and as wide as their place. */
import { colour } from "./dom.js";
import { clockTime, zoneAt } from "./time.js";

const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];
const COLOURS = ["--accent", "--warn", "--ink", "--muted"];
const HEIGHT = 200;

/** @type {WeakMap<Element, any>} the chart that stands in each place */
const plots = new WeakMap();
const places = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (contentRect.width) plots.get(target)?.setSize({ width: contentRect.width, height: HEIGHT });
  }
});

/**
 * `data-chart` holds `{series: [[name, unit], …], points: [[x, y…], …], x: "time" | name}`.
 * @param {HTMLElement} element
 */
export function drawChart(element) {
  const { series, points, x = "time" } = JSON.parse(element.dataset.chart ?? "{}");
  if (!points?.length) return;
  const columns = points[0].map((/** @type {any} */ _, /** @type {number} */ n) =>
    points.map((/** @type {any[]} */ row) => row[n]),
  );
  const ink = colour(element, "--muted");
  const grid = { stroke: colour(element, "--line"), width: 1 };
  const font = '12px "Inter", sans-serif';
  const axis = { stroke: ink, grid, ticks: grid, font };
  const across = points.at(-1)[0] - points[0][0];
  const clock = (/** @type {any} */ _, /** @type {number[]} */ at) =>
    at.map((s) => clockTime(new Date(s * 1000)).slice(0, across > 900 ? 5 : 8));
  const units = [...new Set(series.map((/** @type {string[]} */ one) => one[1]))];
  const options = {
    width: element.clientWidth,
    height: HEIGHT,
    scales: { x: { time: x === "time" } },
    axes: [
      x === "time" ? { ...axis, values: clock, space: 90 } : axis,
      ...units.map((unit, n) => ({
        ...axis,
        scale: unit,
        side: n ? 1 : 3,
        grid: n ? { show: false } : grid,
        size: 64,
        values: (/** @type {any} */ _, /** @type {number[]} */ at) =>
          at.map((value) => `${+value.toFixed(3)} ${unit}`.trim()),
      })),
    ],
    series: [
      x === "time"
        ? { label: `time, ${zoneAt(new Date(points[0][0] * 1000))}`, value: (/** @type {any} */ _, /** @type {number | null} */ s) => (s ? clockTime(new Date(s * 1000)) : "–") }
        : { label: x },
      ...series.map((/** @type {string[]} */ [label, unit], /** @type {number} */ n) => ({
        label,
        scale: unit,
        stroke: colour(element, COLOURS[n]),
        width: 1.5,
        dash: DASHES[n],
        points: { show: points.length < 3 },
        spanGaps: true,
        value: (/** @type {any} */ _, /** @type {number | null} */ value) =>
          value === null ? "–" : `${value.toFixed(2)} ${unit}`.trim(),
      })),
    ],
  };
  element.replaceChildren();
  // @ts-ignore  a classic script of the same page brings uPlot
  plots.set(element, new globalThis.uPlot(options, columns, element));
  places.observe(element);
}

/** Draw every chart that is not drawn yet, or all of them again. @param {boolean} again */
export function drawAll(again) {
  for (const found of document.querySelectorAll("[data-chart]")) {
    const element = /** @type {HTMLElement} */ (found);
    if (again || !element.querySelector(".uplot")) drawChart(element);
  }
}

drawAll(false);
addEventListener("lineside:theme", () => drawAll(true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(true));
document.addEventListener("htmx:after:swap", () => drawAll(false));
