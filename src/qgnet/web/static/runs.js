// Start and stop runs, and handle the server's events.

import { ask, sendJson } from "./api.js";
import { showClasses } from "./classes.js";
import { $ } from "./dom.js";
import { arrange } from "./folder.js";
import { forget, notice, tried } from "./notices.js";
import { saveAll } from "./saving.js";
import { load } from "./session.js";
import { changed, open, showImage, strip } from "./shown.js";
import { state } from "./state.js";
import { showStatus } from "./status.js";

const RETRY_AFTER = 2000; // ms after the server has closed its events

export async function segment() {
  if (state.job.running) return tried(() => ask("/api/segment", { method: "DELETE" }));
  if (!(await saveAll())) return null;
  return tried(() => sendJson("POST", "/api/segment", { first: state.key || "" }));
}

let lost = null; // why no events arrive any more; null while they do, "" if the server still answers other requests

export function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("open", () => {
    if (lost !== null) tried(load);
    lost = null;
    forget("lost");
  });
  events.addEventListener("error", async () => {
    lost ??= "";
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_AFTER);
    const why = await ask("/icon.svg").then(() => "", ({ message }) => message); // a restarted server has another token
    if (lost === null || !why || why === lost) return;
    lost = why;
    notice(why, "lost");
  });
  for (const [name, tell] of Object.entries({ learnt, result, job })) {
    events.addEventListener(name, ({ data }) => tell(JSON.parse(data)));
  }
}

/** The server has learnt the supports again: mark the existing results as those of an earlier run. */
function learnt(byNumber) {
  state.learnt = byNumber;
  for (const one of state.images.values()) {
    if (one.outcome) state.images.set(one.key, { ...one, outcome: { ...one.outcome, stale: true } });
  }
  strip.mark(state.images);
  showClasses();
  showImage();
}

/** The outcome of an image has arrived. */
function result({ key, ...outcome }) {
  const one = state.images.get(key);
  if (!one) return;
  changed({ ...one, outcome });
  if (key === state.key) open(key);
}

/** The state of the run has changed: its progress, or why it ended. */
function job(now) {
  const before = state.job;
  state.job = now;
  if (state.job.error && state.job.error !== before.error) notice(state.job.error, "job");
  if (state.job.running && !before.running) forget("job");
  if (before.running && !state.job.running && !state.job.error) {
    $("order").value = "certain";
    arrange();
  }
  showStatus();
}
