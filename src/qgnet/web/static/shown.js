// The chosen image on the stage and in the strip, with an overlay: its mask, its result, or a region map.

import { showAbout } from "./about.js";
import { getBytes, getJson } from "./api.js";
import { $, check } from "./dom.js";
import { labelsOf, loadProbabilities } from "./found.js";
import { Mask } from "./mask.js";
import { notice, tried } from "./notices.js";
import { countObjects, forgetObjects } from "./objects.js";
import { decodeGrey } from "./png.js";
import { chosenImage, state } from "./state.js";
import { Strip } from "./strip.js";
import { setRadius, stage } from "./tools.js";

export const strip = new Strip($("strip"), open);

/** Take a new description of an image. */
export function changed(one) {
  state.images.set(one.key, one);
  strip.update(one);
}

export async function open(key) {
  const turn = ++state.opening;
  const again = key === state.shown;
  if (!again) leave();
  state.key = key;
  strip.select(key);
  if (!again) {
    forgetObjects();
    state.mask = state.saves.get(key)?.mask || null;
    state.probabilities = null;
    showAbout();
  }
  try {
    const facts = await getJson(`/api/images/${key}`);
    const image = again ? stage.shown.image : await loadImage(`/api/images/${key}/display.jpg`);
    const mask = state.mask || (facts.painted ? await loadMask(facts) : null);
    const probabilities = await loadProbabilities(key, facts.outcome, false);
    if (turn !== state.opening) return;
    $("trouble").hidden = true;
    const { width, height, ...described } = facts;
    changed(described);
    if (!again) {
      stage.show({ image, width, height });
      state.shown = key;
      setRadius(Math.max(width, height) * 0.02);
    }
    state.mask = state.saves.get(key)?.mask || state.mask || mask;
    const [first] = Object.values(probabilities);
    state.probabilities = first && first.width === width && first.height === height ? probabilities : null;
    countObjects();
  } catch (error) {
    if (turn !== state.opening) return;
    stage.show(null);
    state.shown = null;
    $("trouble").textContent = error.message;
    $("trouble").hidden = false;
  }
  showImage();
}

function loadImage(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => getBytes(url).then(() => reject(new Error("This image cannot be shown.")), reject);
    image.src = url;
  });
}

async function loadMask({ key, width, height, painted }) {
  try {
    const bytes = await getBytes(`/api/images/${key}/mask.png`);
    return bytes && new Mask(width, height, (await decodeGrey(bytes)).values, painted.rough);
  } catch (error) {
    if (error.status !== 422) throw error;
    notice(error.message); // the mask is broken, or the image was replaced: the user can clear the mask
    return null;
  }
}

/** The labels to show: the painted mask, or else the result; rough strokes are drawn over the result. */
export function labels() {
  const { mask } = state;
  if (mask && !mask.rough) return mask.values;
  const found = state.probabilities && labelsOf(state.probabilities, chosenImage().outcome, state);
  return mask && found ? mask.values.map((value, i) => value || found[i]) : mask?.values || found;
}

export async function showImage() {
  showAbout();
  stage.labels = state.view === "mask" ? state.grown || labels() : null;
  stage.map = null;
  stage.draw();
  if (state.maps.includes(state.view)) {
    const { key, view, number } = state;
    const map = await tried(() => loadMap(key, number, view));
    if (key === state.key && view === state.view && number === state.number) {
      stage.map = map;
      stage.draw();
    }
  }
}

/** A region map as a canvas, in colours from dark blue (0) to yellow (1). */
async function loadMap(key, number, kind) {
  const bytes = await getBytes(`/api/images/${key}/${number}/${kind}.png`);
  if (!bytes) return null;
  const { values, width, height } = await decodeGrey(bytes);
  const data = new ImageData(width, height);
  values.forEach((value, i) => {
    const t = value / 255;
    data.data.set([255 * t ** 0.8, 40 + 190 * t, 120 + 80 * t - 180 * t * t, 205], 4 * i);
  });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

/** Discard the grown stroke. */
export function leave() {
  if (!state.grown) return;
  state.grown = null;
  if ($("grown").contains(document.activeElement)) $("stage").focus({ preventScroll: true });
  $("grown").hidden = true;
  showImage();
}

export function setView(view) {
  state.view = view;
  check(document.querySelectorAll("[data-view]"), view, "view");
  showImage();
}
