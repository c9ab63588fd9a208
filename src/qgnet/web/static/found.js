// The results of a run as labels at the current thresholds, and the colours of classes.

import { getBytes } from "./api.js";
import { decodeGrey } from "./png.js";
import { state } from "./state.js";

export const IGNORE = 255;

/** [r, g, b] of a class number; grey for ignored pixels. */
export const colourOf = (number) =>
  number === IGNORE ? [150, 150, 150] : state.colours[(number - 1) % state.colours.length];

/** The available probabilities of an image, as {class number: {values, width, height}}. */
export async function loadProbabilities(key, outcome, small) {
  const found = {};
  for (const number of Object.keys(outcome?.scores || {})) {
    const bytes = await getBytes(`/api/images/${key}/${number}/probability.png${small ? "?small=true" : ""}`);
    if (bytes) found[number] = await decodeGrey(bytes);
  }
  return found;
}

/** The class of each pixel: the one furthest above its threshold, set by the user or else by the run. A class with a
 * score below `presence` is absent. Computed in float32, as `furthest_above` in the server's `as_result` does. */
export function labelsOf(probabilities, outcome, { classes, chosen, presence }) {
  const thresholds = { ...outcome.thresholds, ...chosen };
  const size = Object.values(probabilities)[0].values.length;
  const labels = new Uint8Array(size);
  const best = new Float32Array(size);
  for (const { number } of classes) {
    if (!(number in probabilities) || !(outcome.scores[number] >= presence)) continue;
    const { values } = probabilities[number];
    const threshold = Math.fround(thresholds[number] ?? 0.5);
    const above = Float32Array.from({ length: 256 }, (_, value) => Math.fround(value / 255) - threshold);
    for (let i = 0; i < size; i++) {
      if (above[values[i]] > best[i]) {
        labels[i] = number;
        best[i] = above[values[i]];
      }
    }
  }
  return labels;
}

/** Write labels into the pixels of an ImageData (RGBA); outlines are opaque. */
export function paintLabels(pixels, labels, width, height) {
  for (let i = 0; i < width * height; i++) {
    const label = labels[i];
    if (!label) continue;
    const edge = labels[i - 1] !== label || labels[i - width] !== label || labels[i + 1] !== label;
    const [r, g, b] = colourOf(label);
    pixels.set([r, g, b, edge || labels[i + width] !== label ? 255 : 120], 4 * i);
  }
}
