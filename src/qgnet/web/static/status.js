// The text beside Segment: the progress of the run, and whether everything is saved.

import { $ } from "./dom.js";
import { state } from "./state.js";

export function showStatus() {
  const { running, done, total } = state.job;
  $("segment").textContent = running ? "Stop" : "Segment";
  $("progress").classList.toggle("on", running);
  $("progress").value = total ? done / total : 0;
  const saving = [...state.saves.values()].some((save) => save.dirty || save.running);
  if (running) $("status").textContent = total ? `${done} of ${total}` : "Learning…";
  else if (saving) $("status").textContent = "Saving…";
  else $("status").textContent = total && done === total ? `All ${total} done` : "Saved";
}
