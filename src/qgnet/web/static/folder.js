// The folder's pictures: their order in the strip, and those that are added.

import { ask } from "./api.js";
import { $ } from "./dom.js";
import { tried } from "./notices.js";
import { open, strip } from "./shown.js";
import { state } from "./state.js";

/** How far all scores of a picture are from "as likely as not"; pictures without any come last. */
function certainty({ outcome, painted }) {
  const scores = Object.values(outcome?.scores || {});
  return painted || !scores.length ? 2 : Math.min(...scores.map((score) => Math.abs(score - 0.5)));
}

/** Put the strip into the chosen order. */
export function arrange() {
  const pictures = [...state.pictures.values()];
  if ($("order").value === "certain") pictures.sort((a, b) => certainty(a) - certainty(b));
  strip.fill(pictures);
  strip.reveal();
  $("count").textContent = pictures.length.toLocaleString("en");
}

export async function add(files) {
  let last = null;
  for (const file of files) {
    const path = `/api/pictures?name=${encodeURIComponent(file.name.slice(0, 200))}`;
    const one = await tried(async () => (await ask(path, { method: "POST", body: file })).json());
    if (!one) continue;
    state.pictures.set(one.key, one);
    last = one.key;
  }
  if (!last) return;
  arrange();
  $("empty").hidden = true;
  await open(last);
}

/** Pictures that are dropped anywhere on the page are added. */
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
