// What a run found, as labels at the thresholds of this moment; and how classes are coloured.

import { getBytes } from "./api.js";
import { decodeGrey } from "./png.js";

export const IGNORE = 255;
const COLOURS = [
  [255, 90, 70],
  [60, 150, 255],
  [255, 190, 0],
  [40, 190, 100],
  [180, 100, 255],
  [0, 195, 205],
];

/** [r, g, b] of a class's number; grey for what is ignored. */
export const colourOf = (number) => (number === IGNORE ? [150, 150, 150] : COLOURS[(number - 1) % COLOURS.length]);

/** Probabilities of an image by class number, as {number: {values, width, height}}; those that there are. */
export async function loadProbabilities(key, outcome, small) {
  const found = {};
  for (const number of Object.keys(outcome?.scores || {})) {
    const bytes = await getBytes(`/api/images/${key}/${number}/probability.png${small ? "?small=true" : ""}`);
    if (bytes) found[number] = await decodeGrey(bytes);
  }
  return found;
}

/** Each pixel's class: the one furthest above its threshold, which is the run's unless the user has chosen one. A class
 * whose score is below `presence` is not there. */
export function labelsOf(probabilities, outcome, chosen, presence) {
  const { scores } = outcome;
  const thresholds = { ...outcome.thresholds, ...chosen };
  const numbers = Object.keys(probabilities).filter((n) => scores[n] >= presence && n in thresholds);
  const size = Object.values(probabilities)[0].values.length;
  const labels = new Uint8Array(size);
  const best = numbers.length > 1 ? new Float32Array(size) : null;
  for (const number of numbers) {
    const values = probabilities[number].values;
    const threshold = thresholds[number] * 255;
    for (let i = 0; i < size; i++) {
      const above = values[i] - threshold;
      if (above > (best ? best[i] : 0)) {
        labels[i] = number;
        if (best) best[i] = above;
      }
    }
  }
  return labels;
}

/** Labels as an ImageData's pixels (RGBA); outlines are opaque. */
export function paintLabels(pixels, labels, width, height) {
  for (let i = 0; i < width * height; i++) {
    const label = labels[i];
    if (!label) continue;
    const edge = labels[i - 1] !== label || labels[i - width] !== label || labels[i + 1] !== label;
    const [r, g, b] = colourOf(label);
    pixels.set([r, g, b, edge || labels[i + width] !== label ? 255 : 120], 4 * i);
  }
}
