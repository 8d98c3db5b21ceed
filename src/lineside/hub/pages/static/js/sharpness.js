// @ts-check
/** Focus and exposure of a picture, to set up a camera by: compare before and after turning the lens. */

const DARK = 5;
const BRIGHT = 250;
const TOO_MUCH = 0.02;

/**
 * Focus: variance of the Laplacian of the grey values (Pech-Pacheco et al. 2000); the same scene has its highest
 * value where it is sharp. Exposure: mean, and the share of pixels that are black or white out.
 * @param {{data: Uint8ClampedArray, width: number, height: number}} image
 */
export function measure({ data, width, height }) {
  const grey = new Float32Array(width * height);
  let [sum, dark, bright] = [0, 0, 0];
  for (let at = 0; at < grey.length; at += 1) {
    grey[at] = 0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2];
    sum += grey[at];
    dark += Number(grey[at] <= DARK);
    bright += Number(grey[at] >= BRIGHT);
  }
  let [total, squares, count] = [0, 0, 0];
  for (let y = 1; y < height - 1; y += 1) {
    for (let x = 1; x < width - 1; x += 1) {
      const at = y * width + x;
      const edge = grey[at - 1] + grey[at + 1] + grey[at - width] + grey[at + width] - 4 * grey[at];
      total += edge;
      squares += edge * edge;
      count += 1;
    }
  }
  const mean = count ? total / count : 0;
  const pixels = grey.length || 1;
  return { focus: count ? squares / count - mean * mean : 0, mean: sum / pixels, dark: dark / pixels, bright: bright / pixels };
}

/** The figures in words. @param {{data: Uint8ClampedArray, width: number, height: number}} image */
export function figuresOf(image) {
  const { focus, mean, dark, bright } = measure(image);
  const share = (/** @type {number} */ part) => `${(100 * part).toFixed(1)} %`;
  const judged = bright > TOO_MUCH ? "too bright: shorten the exposure" : dark > TOO_MUCH && mean < 40 ? "too dark: more light or exposure" : "in range";
  return [
    { name: "Focus", value: focus.toFixed(0), meaning: "turn the lens until it is highest" },
    { name: "Brightness", value: `${mean.toFixed(0)} of 255`, meaning: judged },
    { name: "Saturated", value: share(bright), meaning: "white out; details are lost there" },
    { name: "Black", value: share(dark), meaning: "without any light" },
  ];
}
