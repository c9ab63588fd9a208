// The images of the folder: their order in the strip, and how images are added.

import { ask } from "./api.js";
import { $ } from "./dom.js";
import { tried } from "./notices.js";
import { open, strip } from "./shown.js";
import { state } from "./state.js";

/** The smallest distance of an image's scores from 0.5; painted images and those without scores come last. */
function certainty({ outcome, painted }) {
  const scores = Object.values(outcome?.scores || {});
  return painted || !scores.length ? 2 : Math.min(...scores.map((score) => Math.abs(score - 0.5)));
}

/** Sort the strip in the chosen order. */
export function arrange() {
  const images = [...state.images.values()];
  if ($("order").value === "certain") images.sort((a, b) => certainty(a) - certainty(b));
  strip.fill(images);
  strip.reveal();
  $("count").textContent = images.length.toLocaleString("en");
}

export async function add(files) {
  let last = null;
  for (const file of files) {
    const path = `/api/images?name=${encodeURIComponent(file.name.slice(0, 200))}`;
    const one = await tried(async () => (await ask(path, { method: "POST", body: file })).json());
    if (!one) continue;
    state.images.set(one.key, one);
    last = one.key;
  }
  if (!last) return;
  arrange();
  $("empty").hidden = true;
  await open(last);
}

/** Add images that are dropped anywhere on the page. */
export function dropping() {
  let depth = 0;
  const carriesFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  const over = (by) => (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = Math.max(0, depth + by);
    $("drop").hidden = depth === 0;
  };
  document.addEventListener("dragenter", over(1));
  document.addEventListener("dragleave", over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    $("drop").hidden = true;
    add([...event.dataTransfer.files]);
  });
}
