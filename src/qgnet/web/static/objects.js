// The single objects of the chosen image: their number per class, and the edges where they touch. The server separates
// them in the saved mask or result. Nothing is shown while a stroke or a threshold changes.

import { showAbout } from "./about.js";
import { getJson } from "./api.js";
import { decodeGrey } from "./png.js";
import { state } from "./state.js";
import { stage } from "./tools.js";

const COUNT_AFTER = 300; // ms without another change

export function forgetObjects() {
  state.counting++;
  state.counts = {};
  stage.objects = null;
}

export async function countObjects() {
  forgetObjects();
  const { key, counting } = state;
  const late = () => counting !== state.counting || state.saves.has(key);
  await new Promise((resolve) => setTimeout(resolve, COUNT_AFTER));
  if (late()) return;
  try {
    const { counts, png } = await getJson(`/api/images/${key}/objects`);
    const objects = png && (await decodeGrey(Uint8Array.from(atob(png), (one) => one.charCodeAt(0)).buffer));
    if (late() || objects?.width !== stage.shown?.width || objects?.height !== stage.shown?.height) return;
    state.counts = counts;
    stage.objects = objects.values;
    stage.draw();
    showAbout();
  } catch {
    // the error is shown with the mask or the result
  }
}
