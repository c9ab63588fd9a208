// Save masks on the server soon after each change, with retries, and delete them there.

import { showAbout } from "./about.js";
import { ask } from "./api.js";
import { forget, notice, tried } from "./notices.js";
import { countObjects } from "./objects.js";
import { encodeGrey } from "./png.js";
import { changed, leave, showImage } from "./shown.js";
import { state } from "./state.js";
import { showStatus } from "./status.js";

const SAVE_AFTER = 250; // ms without another stroke
const RETRY_AFTER = 2000; // ms after a save that failed

export function saveSoon(key, mask, after = SAVE_AFTER) {
  const save = state.saves.get(key) || { running: null };
  clearTimeout(save.timer);
  Object.assign(save, { mask, dirty: true, timer: setTimeout(() => saveNow(key), after) });
  state.saves.set(key, save);
  showStatus();
}

/** Send a mask to the server; retry later if that fails. Resolves to whether the mask is saved. */
export async function saveNow(key, support) {
  const save = state.saves.get(key);
  if (!save) return true;
  clearTimeout(save.timer);
  if (save.running) await save.running.catch(() => null); // its own caller reports the error
  if (!save.dirty && support === undefined) return true;
  save.dirty = false;
  save.running = sendMask(key, save.mask, support);
  try {
    changed(await save.running);
    forget("save");
    if (!save.dirty) state.saves.delete(key);
    if (key === state.key) countObjects();
    return true;
  } catch (error) {
    notice(`Not saved: ${error.message}`, "save");
    if (support === undefined && !save.dirty) saveSoon(key, save.mask, RETRY_AFTER);
    return false;
  } finally {
    save.running = null;
    showStatus();
    if (key === state.key) showAbout();
  }
}

async function sendMask(key, mask, wanted) {
  const { painted, outcome } = state.images.get(key);
  const found = Object.keys(outcome?.scores || {}).length > 0;
  const { isEmpty } = mask;
  if (isEmpty && !found && wanted === undefined) {
    return (await ask(`/api/images/${key}/mask.png`, { method: "DELETE" })).json();
  }
  const support = wanted ?? ((painted ? painted.support : !found) && !isEmpty);
  const body = await encodeGrey(mask.values, mask.width, mask.height);
  return (await ask(`/api/images/${key}/mask.png?support=${support}&rough=${mask.rough}`, { method: "PUT", body })).json();
}

export async function saveAll() {
  return (await Promise.all([...state.saves.keys()].map((key) => saveNow(key)))).every(Boolean);
}

export async function clear() {
  const { key } = state;
  leave();
  const save = state.saves.get(key);
  if (save) {
    clearTimeout(save.timer);
    await save.running?.catch(() => {});
    state.saves.delete(key);
  }
  const one = await tried(async () => (await ask(`/api/images/${key}/mask.png`, { method: "DELETE" })).json());
  if (!one) return;
  changed(one);
  if (key === state.key) {
    state.mask = null;
    showImage();
    countObjects();
  }
  showStatus();
}
