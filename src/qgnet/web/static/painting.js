// What the user paints changes the mask on the stage.

import { showAbout } from "./about.js";
import { $ } from "./dom.js";
import { Mask } from "./mask.js";
import { countObjects, forgetObjects } from "./objects.js";
import { saveNow, saveSoon } from "./saving.js";
import { labels, setView } from "./shown.js";
import { chosenImage, state } from "./state.js";
import { stage } from "./tools.js";

/** A mask to paint in; of an image with a prediction, the prediction to be corrected. */
function ensureMask() {
  if (!stage.shown || state.shown !== state.key) return null;
  if (!state.mask) {
    const { width, height } = stage.shown;
    state.mask = new Mask(width, height, labels());
  }
  if (state.view !== "mask") setView("mask");
  stage.labels = state.mask.values;
  return state.mask;
}

export function begin() {
  const mask = ensureMask();
  if (mask) forgetObjects();
  mask?.begin();
  return mask;
}

export function stroke(from, to, erase) {
  state.mask.stroke(from, to, stage.radius, erase ? 0 : state.number);
  stage.draw();
}

export function end() {
  if (state.mask.end()) edited();
  else {
    showAbout();
    countObjects();
  }
}

export function cancel() {
  state.mask.cancel();
  stage.draw();
  countObjects();
}

export function fill(point) {
  if (!begin()) return;
  state.mask.fill(Math.floor(point.x), Math.floor(point.y), state.number);
  end();
}

export function step(direction) {
  if (state.mask?.[direction]()) edited();
}

function edited() {
  forgetObjects();
  stage.draw();
  saveSoon(state.key, state.mask);
  showAbout();
}

export async function accept() {
  const mask = $("accept").disabled ? null : ensureMask();
  if (!mask) return;
  saveSoon(state.key, mask);
  await saveNow(state.key, !chosenImage().painted?.support);
}
