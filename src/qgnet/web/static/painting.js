// The user's strokes change the mask on the stage.

import { showAbout } from "./about.js";
import { ask } from "./api.js";
import { $ } from "./dom.js";
import { IGNORE } from "./found.js";
import { Mask } from "./mask.js";
import { forget, notice, tried } from "./notices.js";
import { countObjects, forgetObjects } from "./objects.js";
import { decodeGrey, encodeGrey } from "./png.js";
import { saveNow, saveSoon } from "./saving.js";
import { labels, leave, setView, showImage } from "./shown.js";
import { chosenImage, nameOf, state } from "./state.js";
import { stage } from "./tools.js";

/** The mask to paint on; for an image with a prediction, a mask that starts as the prediction. */
function ensureMask() {
  if (!stage.shown || state.shown !== state.key) return null;
  if (!state.mask) {
    const { width, height } = stage.shown;
    const found = labels();
    state.mask = new Mask(width, height, found, state.rough && !found);
  }
  if (state.view !== "mask") setView("mask");
  stage.labels = state.mask.values;
  return state.mask;
}

export function begin() {
  leave();
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
  leave();
  if (state.mask?.[direction]()) edited();
}

/** Grow the strokes of the class to the edge of the object and show the result; `take` accepts it. */
export async function snap() {
  const { key, number, mask } = state;
  if ($("snap").disabled) return;
  leave();
  if (!mask || state.shown !== key || number === IGNORE || !mask.values.includes(number)) {
    notice(`Paint a rough stroke of ${nameOf(number === IGNORE ? state.classes[0].number : number)} first, then press Snap.`, "snap");
    return;
  }
  forget("snap");
  if (state.view !== "mask") setView("mask");
  const before = mask.values.slice();
  $("snap").disabled = true;
  const grown = await tried(() => grow(key, number, mask));
  $("snap").disabled = false;
  const same = key === state.key && mask === state.mask && before.every((value, i) => value === mask.values[i]);
  if (!grown || !same) return;
  if (grown.every((value, i) => value === before[i])) {
    notice("The stroke is at the edge already: there is nothing to grow.", "snap");
    return;
  }
  state.grown = grown;
  $("grown").hidden = false;
  $("grown-take").focus();
  showImage();
}

async function grow(key, number, { values, width, height, rough }) {
  const body = await encodeGrey(values, width, height);
  const answer = await ask(`/api/images/${key}/${number}/snap.png?rough=${rough}`, { method: "POST", body });
  return (await decodeGrey(await answer.arrayBuffer())).values;
}

/** Accept the grown stroke. */
export function take() {
  const { grown, mask } = state;
  if (!grown) return;
  leave();
  if (mask.replace(grown)) edited();
}

/** Set whether unpainted pixels are unknown, in this image and in images painted later. */
export function setUnpainted(meaning) {
  leave();
  state.rough = meaning === "unknown";
  if (state.mask && state.mask.rough !== state.rough) {
    state.mask.rough = state.rough;
    saveSoon(state.key, state.mask);
  }
  showImage();
}

function edited() {
  forgetObjects();
  showImage();
  saveSoon(state.key, state.mask);
}

export async function accept() {
  const mask = $("accept").disabled ? null : ensureMask();
  if (!mask) return;
  saveSoon(state.key, mask);
  await saveNow(state.key, !chosenImage().painted?.support);
}
