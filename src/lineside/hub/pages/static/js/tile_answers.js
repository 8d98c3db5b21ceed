// @ts-check
/** The lists of a tile: each region's answer, and what further inspections said of the same frame. */
import { answerText, regionMark, saidOf } from "./answers.js";
import { fill, make, mark } from "./dom.js";
import { probability } from "./format.js";

/** Every answer, where the tile has room for them; none to a frame without. @param {HTMLElement} tile @param {any} said */
export function listAnswers(tile, said) {
  const rows = (said ? saidOf(said) : []).map((one) =>
    make(
      "li",
      {},
      make("span", { class: "place" }, one.region),
      mark(regionMark(one)),
      make("span", { class: "probability" }, probability(one.probability)),
    ),
  );
  fill(tile.querySelector("[data-said]"), ...rows);
}

/** A line for each further inspection. @param {HTMLElement} tile @param {string[]} names @param {any[]} also */
export function listBeside(tile, names, also) {
  const rows = names.map((name) => {
    const said = also.find((one) => one.inspection === name);
    return make("div", {}, make("dt", {}, name), make("dd", {}, said ? answerText(said) : "–"));
  });
  fill(tile.querySelector("[data-beside]"), ...rows);
}
