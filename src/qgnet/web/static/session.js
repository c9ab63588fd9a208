// Load the session from the server, when the page opens and after the server was unreachable.

import { getJson } from "./api.js";
import { showClasses } from "./classes.js";
import { $, check } from "./dom.js";
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
  state.colours = session.colours;
  state.maps = session.maps;
  const views = $("views").children;
  $("views").replaceChildren(views[0], ...session.maps.map(mapButton), views[views.length - 1]);
  check($("views").children, state.view, "view");
  $("formats").replaceChildren(...Object.entries(session.formats).map(formatBox));
  for (const one of session.images) strip.update(one);
  arrange();
  showClasses();
  for (const text of session.warnings) notice(text);
  $("empty").hidden = state.images.size > 0;
  const key = state.images.has(state.key) ? state.key : strip.order[0];
  if (key) await open(key);
}

const MEANINGS = { guided: "How similar each place is to what is painted", prior: "What stands out by itself" };

/** The button that shows a region map of the network. */
function mapButton(name) {
  const node = document.createElement("button");
  node.type = "button";
  node.setAttribute("role", "radio");
  node.dataset.view = name;
  node.title = MEANINGS[name] || "";
  node.textContent = name[0].toUpperCase() + name.slice(1);
  return node;
}

/** The checkbox of a download format; the first one is checked. */
function formatBox([name, text], i) {
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", name: "format", value: name, checked: i === 0 });
  const node = document.createElement("label");
  node.append(box, ` ${text}`);
  return node;
}
