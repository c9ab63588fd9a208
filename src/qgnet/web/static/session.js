// The session as the server keeps it, when the page is opened and after the server was away.

import { getJson } from "./api.js";
import { showClasses } from "./classes.js";
import { $ } from "./dom.js";
import { arrange } from "./folder.js";
import { notice } from "./notices.js";
import { open, strip } from "./shown.js";
import { state } from "./state.js";

export async function load() {
  const session = await getJson("/api/session");
  $("folder").textContent = session.folder;
  document.title = `${session.folder} – QGNet`;
  state.classes = session.settings.classes;
  state.chosen = session.settings.thresholds;
  state.learnt = session.learnt;
  state.presence = session.presence;
  state.images = new Map(session.images.map((one) => [one.key, one]));
  if (!state.classes.some((one) => one.number === state.number)) state.number = state.classes[0].number;
  document.querySelector('[data-view="prior"]').hidden = !session.maps.includes("prior");
  for (const one of session.images) strip.update(one);
  arrange();
  showClasses();
  for (const text of session.warnings) notice(text);
  $("empty").hidden = state.images.size > 0;
  const key = state.images.has(state.key) ? state.key : strip.order[0];
  if (key) await open(key);
}
