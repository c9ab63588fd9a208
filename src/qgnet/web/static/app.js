// The page: what the user does becomes changes of masks and settings, which the server keeps at once.

import { ask, getBytes, getJson, sendJson } from "./api.js";
import { colourOf, IGNORE, labelsOf, loadProbabilities } from "./found.js";
import { Mask } from "./mask.js";
import { decodeGrey, encodeGrey } from "./png.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";

const SAVE_AFTER = 250; // ms without another stroke
const RETRY_AFTER = 2000; // ms after a save that failed
const $ = (id) => document.getElementById(id);

const state = {
  pictures: new Map(), // key → as the server describes it
  classes: [],
  chosen: {}, // class number → threshold that the user set
  learnt: {}, // class number → {threshold, expected} of the last run
  presence: 0,
  job: { running: false, done: 0, total: 0, error: "" },
  key: null, // of the picture that is chosen
  shown: null, // of the one on the stage, which may still be the one before
  opening: 0,
  mask: null, // of that picture, once something is painted
  probabilities: null, // of that picture
  view: "mask",
  number: 1, // of the class that is painted
};
const saves = new Map(); // key → {mask, timer, running}
const stage = new Stage($("stage"), $("cursor"), { begin, stroke, end, cancel, fill });
const strip = new Strip($("strip"), open, () => ({ chosen: state.chosen, presence: state.presence }));

const thresholds = () => ({
  ...Object.fromEntries(Object.entries(state.learnt).map(([n, learnt]) => [n, learnt.threshold])),
  ...state.chosen,
});
const picture = () => state.pictures.get(state.key);

// ---- notices -------------------------------------------------------------------------------------------------------

/** Say something; a second notice of the same kind takes the place of the first. */
function notice(text, kind = "", bad = true) {
  const node = document.createElement("div");
  node.className = bad ? "notice bad" : "notice";
  node.dataset.kind = kind || text;
  const span = document.createElement("span");
  span.textContent = text;
  node.append(span, button("Close", "i-close", () => node.remove()));
  forget(node.dataset.kind);
  $("notices").append(node);
  if (!bad) setTimeout(() => node.remove(), 5000);
}

function forget(kind) {
  for (const node of [...$("notices").children]) if (node.dataset.kind === kind) node.remove();
}

function button(label, icon, act, className = "") {
  const node = document.createElement("button");
  node.type = "button";
  node.className = className;
  node.setAttribute("aria-label", label);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${icon}`);
  svg.append(use);
  node.append(svg);
  node.addEventListener("click", act);
  return node;
}

/** Run what may be refused; the refusal is shown. */
async function tried(action) {
  try {
    return await action();
  } catch (error) {
    notice(error.message);
    return null;
  }
}

// ---- the session ---------------------------------------------------------------------------------------------------

async function load() {
  const session = await getJson("/api/session");
  $("folder").textContent = session.folder;
  document.title = `${session.folder} – QGNet`;
  state.classes = session.settings.classes;
  state.chosen = session.settings.thresholds;
  state.learnt = session.learnt;
  state.presence = session.presence;
  state.pictures = new Map(session.pictures.map((one) => [one.key, one]));
  if (!state.classes.some((one) => one.number === state.number)) state.number = state.classes[0].number;
  document.querySelector('[data-view="prior"]').hidden = !session.maps.includes("prior");
  for (const one of session.pictures) strip.update(one);
  arrange();
  showClasses();
  $("empty").hidden = state.pictures.size > 0;
  const key = state.pictures.has(state.key) ? state.key : strip.order[0];
  if (key) await open(key);
}

/** How far all scores of a picture are from "as likely as not"; pictures without any come last. */
function certainty({ outcome, painted }) {
  const scores = Object.values(outcome?.scores || {});
  return painted || !scores.length ? 2 : Math.min(...scores.map((score) => Math.abs(score - 0.5)));
}

/** Put the strip into the chosen order. */
function arrange() {
  const pictures = [...state.pictures.values()];
  if ($("order").value === "certain") pictures.sort((a, b) => certainty(a) - certainty(b));
  strip.fill(pictures);
  strip.reveal();
  $("count").textContent = pictures.length.toLocaleString("en");
}

function changed(one) {
  state.pictures.set(one.key, one);
  strip.update(one);
}

async function keepSettings() {
  await tried(() => sendJson("PUT", "/api/settings", { classes: state.classes, thresholds: state.chosen }));
}

// ---- the picture on the stage --------------------------------------------------------------------------------------

async function open(key) {
  const turn = ++state.opening;
  const again = key === state.shown;
  state.key = key;
  strip.select(key);
  if (!again) {
    state.mask = saves.get(key)?.mask || null;
    state.probabilities = null;
    showAbout();
  }
  try {
    const facts = await getJson(`/api/pictures/${key}`);
    const image = again ? stage.picture.image : await loadImage(`/api/pictures/${key}/display.jpg`);
    const mask = state.mask || (facts.painted ? await loadMask(facts) : null);
    const probabilities = await loadProbabilities(key, facts.outcome, false);
    if (turn !== state.opening) return;
    $("trouble").hidden = true;
    const { width, height, ...described } = facts;
    changed(described);
    if (!again) {
      stage.show({ image, width, height });
      state.shown = key;
      setRadius(Math.max(width, height) * 0.02);
    }
    state.mask = saves.get(key)?.mask || state.mask || mask;
    const [first] = Object.values(probabilities);
    state.probabilities = first && first.width === width && first.height === height ? probabilities : null;
  } catch (error) {
    if (turn !== state.opening) return;
    stage.show(null);
    state.shown = null;
    $("trouble").textContent = error.message;
    $("trouble").hidden = false;
  }
  showPicture();
}

function loadImage(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => getBytes(url).then(() => reject(new Error("This picture cannot be shown.")), reject);
    image.src = url;
  });
}

async function loadMask({ key, width, height }) {
  const bytes = await getBytes(`/api/pictures/${key}/mask.png`);
  if (!bytes) return null;
  const found = await decodeGrey(bytes);
  if (found.width === width && found.height === height) return new Mask(width, height, found.values);
  notice("The picture's file has another size than its mask. Clear the mask, or put the earlier file back.");
  return null;
}

/** Labels to be seen: what is painted, or else what was found. */
function labels() {
  if (state.mask) return state.mask.values;
  const found = state.probabilities;
  return found && labelsOf(found, picture().outcome, state.chosen, state.presence);
}

async function showPicture() {
  showAbout();
  stage.labels = state.view === "mask" ? labels() : null;
  stage.map = null;
  stage.draw();
  if (["guided", "prior"].includes(state.view)) {
    const { key, view, number } = state;
    const map = await tried(() => loadMap(key, number, view));
    if (key === state.key && view === state.view && number === state.number) {
      stage.map = map;
      stage.draw();
    }
  }
}

/** A map as a canvas in colours from dark blue (0) to yellow (1). */
async function loadMap(key, number, kind) {
  const bytes = await getBytes(`/api/pictures/${key}/${number}/${kind}.png`);
  if (!bytes) return null;
  const { values, width, height } = await decodeGrey(bytes);
  const data = new ImageData(width, height);
  values.forEach((value, i) => {
    const t = value / 255;
    data.data.set([255 * t ** 0.8, 40 + 190 * t, 120 + 80 * t - 180 * t * t, 205], 4 * i);
  });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

const nameOf = (number) => state.classes.find((one) => one.number === Number(number))?.name || "ignored";

function showAbout() {
  const one = picture();
  const about = $("about");
  about.replaceChildren();
  $("accept").disabled = !one || !(state.mask || state.probabilities);
  $("accept").textContent = one?.painted?.support ? "Take out of supports" : "Accept as support";
  $("clear").disabled = !state.mask;
  $("undo").disabled = !state.mask?.past.length;
  $("redo").disabled = !state.mask?.future.length;
  for (const node of document.querySelectorAll("[data-view]")) {
    node.disabled = ["guided", "prior"].includes(node.dataset.view) && !state.probabilities;
  }
  $("stage").setAttribute("aria-label", one ? `${one.name}. Arrow keys move the brush, Space paints.` : "No picture");
  if (!one) return;
  const name = document.createElement("strong");
  name.textContent = one.name;
  about.append(name, `${sizeText()}${describe(one)}`);
}

const sizeText = () => (stage.picture && state.shown === state.key ? `${stage.picture.width} × ${stage.picture.height} px. ` : "");

function describe({ painted, outcome }) {
  if (painted?.support || (state.mask && !painted && !outcome)) return "Painted by you, a support.";
  if (state.mask) return "Corrected by you; accept it to find the others by it, too.";
  if (outcome?.error) return outcome.error;
  const scores = Object.entries(outcome?.scores || {});
  if (!scores.length) return "Paint the object, then press Segment.";
  const said = ([n, score]) => `${score < state.presence ? "No " : ""}${nameOf(n)}: score ${score.toFixed(2)}.`;
  return `${scores.map(said).join(" ")}${outcome.stale ? " Of an earlier run." : ""}`;
}

// ---- painting ------------------------------------------------------------------------------------------------------

/** A mask to paint in; of a picture with a prediction, the prediction to be corrected. */
function ensureMask() {
  if (!stage.picture || state.shown !== state.key) return null;
  if (!state.mask) {
    const { width, height } = stage.picture;
    state.mask = new Mask(width, height, labels());
  }
  if (state.view !== "mask") setView("mask");
  stage.labels = state.mask.values;
  return state.mask;
}

function begin() {
  const mask = ensureMask();
  mask?.begin();
  return mask;
}

function stroke(from, to, erase) {
  state.mask.stroke(from, to, stage.radius, erase ? 0 : state.number);
  stage.draw();
}

function end() {
  if (state.mask.end()) edited();
  else showAbout();
}

function cancel() {
  state.mask.cancel();
  stage.draw();
}

function fill(point) {
  if (!begin()) return;
  state.mask.fill(Math.floor(point.x), Math.floor(point.y), state.number);
  end();
}

function step(direction) {
  if (state.mask?.[direction]()) edited();
}

function edited() {
  stage.draw();
  saveSoon(state.key, state.mask);
  showAbout();
}

// ---- saving --------------------------------------------------------------------------------------------------------

function saveSoon(key, mask, after = SAVE_AFTER) {
  const save = saves.get(key) || { running: null };
  clearTimeout(save.timer);
  Object.assign(save, { mask, dirty: true, timer: setTimeout(() => saveNow(key), after) });
  saves.set(key, save);
  showStatus();
}

/** Send a mask to the server; while that fails it is tried again. Resolves to whether all is saved. */
async function saveNow(key, support) {
  const save = saves.get(key);
  if (!save) return true;
  clearTimeout(save.timer);
  if (save.running) await save.running;
  if (!save.dirty && support === undefined) return true;
  save.dirty = false;
  save.running = sendMask(key, save.mask, support);
  try {
    changed(await save.running);
    forget("save");
    if (!save.dirty) saves.delete(key);
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
  const { painted, outcome } = state.pictures.get(key);
  const found = Object.keys(outcome?.scores || {}).length > 0;
  const { isEmpty } = mask;
  if (isEmpty && !found && wanted === undefined) {
    return (await ask(`/api/pictures/${key}/mask.png`, { method: "DELETE" })).json();
  }
  const support = wanted ?? ((painted ? painted.support : !found) && !isEmpty);
  const body = await encodeGrey(mask.values, mask.width, mask.height);
  return (await ask(`/api/pictures/${key}/mask.png?support=${support}`, { method: "PUT", body })).json();
}

async function saveAll() {
  return (await Promise.all([...saves.keys()].map((key) => saveNow(key)))).every(Boolean);
}

async function accept() {
  const mask = $("accept").disabled ? null : ensureMask();
  if (!mask) return;
  saveSoon(state.key, mask);
  await saveNow(state.key, !picture().painted?.support);
}

async function clear() {
  if (!state.mask) return;
  const { key } = state;
  const save = saves.get(key);
  if (save) {
    clearTimeout(save.timer);
    await save.running?.catch(() => {});
    saves.delete(key);
  }
  const one = await tried(async () => (await ask(`/api/pictures/${key}/mask.png`, { method: "DELETE" })).json());
  if (!one) return;
  changed(one);
  if (key === state.key) {
    state.mask = null;
    showPicture();
  }
  showStatus();
}

// ---- runs ----------------------------------------------------------------------------------------------------------

async function segment() {
  if (state.job.running) return tried(() => ask("/api/segment", { method: "DELETE" }));
  if (!(await saveAll())) return null;
  return tried(() => sendJson("POST", "/api/segment", { first: state.key || "" }));
}

function listen() {
  const events = new EventSource("/api/events");
  let lost = false;
  events.addEventListener("open", () => {
    if (lost) tried(load);
    lost = false;
    forget("lost");
  });
  events.addEventListener("error", () => {
    if (!lost) notice("The server does not answer. Start `qgnet serve` again: what was saved is still there.", "lost");
    lost = true;
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_AFTER);
  });
  events.addEventListener("learnt", ({ data }) => {
    state.learnt = JSON.parse(data);
    for (const one of state.pictures.values()) {
      if (one.outcome) state.pictures.set(one.key, { ...one, outcome: { ...one.outcome, stale: true } });
    }
    strip.mark(state.pictures);
    showClasses();
    showPicture();
  });
  events.addEventListener("result", ({ data }) => {
    const { key, ...outcome } = JSON.parse(data);
    const one = state.pictures.get(key);
    if (!one) return;
    changed({ ...one, outcome });
    if (key === state.key) open(key);
  });
  events.addEventListener("job", ({ data }) => {
    const before = state.job;
    state.job = JSON.parse(data);
    if (state.job.error && state.job.error !== before.error) notice(state.job.error, "job");
    if (state.job.running && !before.running) forget("job");
    if (before.running && !state.job.running && !state.job.error) {
      $("order").value = "certain";
      arrange();
    }
    showStatus();
  });
}

function showStatus() {
  const { running, done, total } = state.job;
  $("segment").textContent = running ? "Stop" : "Segment";
  $("progress").classList.toggle("on", running);
  $("progress").value = total ? done / total : 0;
  const saving = [...saves.values()].some((save) => save.dirty || save.running);
  if (running) $("status").textContent = total ? `${done} of ${total}` : "Learning…";
  else if (saving) $("status").textContent = "Saving…";
  else $("status").textContent = total && done === total ? `All ${total} done` : "Saved";
}

// ---- classes and thresholds ----------------------------------------------------------------------------------------

function showClasses() {
  const rows = [...state.classes, { number: IGNORE, name: "ignored" }].map(({ number, name }, i) => {
    const row = document.createElement("li");
    row.classList.toggle("on", number === state.number);
    const pick = document.createElement("button");
    pick.type = "button";
    pick.className = "pick";
    pick.title = number === IGNORE ? "Paint what nothing is said of" : `Paint this class (${i + 1})`;
    pick.setAttribute("aria-label", `Paint ${name}`);
    pick.setAttribute("aria-pressed", number === state.number);
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = `rgb(${colourOf(number)})`;
    pick.append(dot);
    pick.addEventListener("click", () => choose(number));
    row.append(pick);
    if (number === IGNORE) {
      const label = document.createElement("span");
      label.className = "label";
      label.textContent = name;
      row.append(label);
      return row;
    }
    const field = document.createElement("input");
    field.type = "text";
    field.value = name;
    field.maxLength = 60;
    field.setAttribute("aria-label", `Name of class ${i + 1}`);
    field.addEventListener("change", () => rename(number, field));
    const facts = document.createElement("span");
    facts.className = "facts";
    const expected = state.learnt[number]?.expected;
    facts.textContent = expected === undefined ? "" : `IoU ${expected.toFixed(2)}`;
    facts.title = "How well the supports find each other; of one alone, its mirror image";
    row.append(field, facts);
    if (state.classes.length > 1) row.append(button(`Take out ${name}`, "i-close", () => takeOut(number), "remove"));
    return row;
  });
  $("classes").replaceChildren(...rows);
  showThreshold();
}

function choose(number) {
  state.number = number;
  showClasses();
  if (["guided", "prior"].includes(state.view)) showPicture();
}

function rename(number, field) {
  const name = field.value.trim();
  if (!name || state.classes.some((one) => one.name === name && one.number !== number)) {
    notice(name ? `There is a class ${name} already.` : "A class needs a name.");
    field.value = nameOf(number);
    return;
  }
  state.classes = state.classes.map((one) => (one.number === number ? { number, name } : one));
  showClasses();
  keepSettings();
}

function addClass() {
  const numbers = state.classes.map((one) => one.number);
  let number = 1;
  while (numbers.includes(number)) number++;
  let name = `class ${number}`;
  while (state.classes.some((one) => one.name === name)) name += "'";
  state.classes = [...state.classes, { number, name }];
  choose(number);
  keepSettings();
  const fields = $("classes").querySelectorAll("input");
  fields[fields.length - 1].select();
}

async function takeOut(number) {
  const classes = state.classes.filter((one) => one.number !== number);
  const { [number]: _, ...chosen } = state.chosen;
  if (!(await tried(() => sendJson("PUT", "/api/settings", { classes, thresholds: chosen })))) return;
  [state.classes, state.chosen] = [classes, chosen];
  if (state.number === number) state.number = classes[0].number;
  showClasses();
  showPicture();
}

function showThreshold() {
  const value = thresholds()[state.number];
  $("threshold").disabled = value === undefined;
  $("threshold").value = value ?? 0.5;
  $("threshold-of").textContent = value === undefined ? "After the first run" : nameOf(state.number);
  $("threshold-value").textContent = value === undefined ? "" : value.toFixed(2);
  $("threshold-reset").disabled = state.chosen[state.number] === undefined;
}

function setThreshold(value) {
  state.chosen = { ...state.chosen, [state.number]: value };
  showThreshold();
  if (!state.mask && state.view === "mask") {
    stage.labels = labels();
    stage.draw();
  }
  strip.redraw();
}

function resetThreshold() {
  const { [state.number]: _, ...others } = state.chosen;
  state.chosen = others;
  showThreshold();
  showPicture();
  strip.redraw();
  keepSettings();
}

// ---- tools ---------------------------------------------------------------------------------------------------------

function check(nodes, value, of) {
  for (const node of nodes) {
    const on = node.dataset[of] === value;
    node.setAttribute("aria-checked", on);
    node.tabIndex = on ? 0 : -1;
  }
}

function setTool(tool) {
  stage.tool = tool;
  $("stage").dataset.tool = tool;
  check(document.querySelectorAll("button[data-tool]"), tool, "tool");
  stage.drawCursor();
}

function setView(view) {
  state.view = view;
  check(document.querySelectorAll("[data-view]"), view, "view");
  showPicture();
}

/** Radius in pixels of the picture ↔ the slider's 0 … 100, of which each step is as much larger as the one before. */
const largest = () => Math.max(4, Math.max(stage.picture?.width || 0, stage.picture?.height || 0) / 6);

function setRadius(radius) {
  stage.radius = Math.min(largest(), Math.max(0.5, radius));
  $("size").value = (100 * Math.log(stage.radius / 0.5)) / Math.log(largest() / 0.5);
  $("size-value").textContent = `${Math.round(2 * stage.radius)} px`;
  stage.drawCursor();
}

/** Arrow keys among the buttons of a group of which one is on. */
function arrows(group, of, set) {
  group.addEventListener("click", (event) => {
    const node = event.target.closest(`[data-${of}]`);
    if (node) set(node.dataset[of]);
  });
  group.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move) return;
    const nodes = [...group.querySelectorAll(`[data-${of}]:not(:disabled):not([hidden])`)];
    const next = nodes[(nodes.indexOf(event.target) + move + nodes.length) % nodes.length];
    event.preventDefault();
    next.focus();
    set(next.dataset[of]);
  });
}

/** The brush by keys: arrows move it, Space paints, Shift and arrows paint a line. */
function brushKeys(event) {
  const move = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
  if (state.shown !== state.key || (!move && event.key !== " ") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const { width, height } = stage.picture;
  const from = stage.point || { x: width / 2, y: height / 2 };
  const pace = Math.max(1, stage.radius);
  const within = (value, most) => Math.min(most, Math.max(0, value));
  const to = move
    ? { x: within(from.x + move[0] * pace, width), y: within(from.y + move[1] * pace, height) }
    : from;
  stage.point = to;
  if (event.key === " " && stage.tool === "fill") fill(to);
  else if ((event.key === " " || event.shiftKey) && stage.tool !== "hand" && begin()) {
    stroke(from, to, stage.tool === "eraser");
    end();
  }
  stage.drawCursor();
}

const KEYS = {
  b: () => setTool("brush"),
  e: () => setTool("eraser"),
  f: () => setTool("fill"),
  h: () => setTool("hand"),
  "[": () => setRadius(stage.radius / 1.25),
  "]": () => setRadius(stage.radius * 1.25),
  "+": () => stage.zoom(1.25),
  "=": () => stage.zoom(1.25),
  "-": () => stage.zoom(0.8),
  0: () => stage.fit(),
  ",": () => go(-1),
  ".": () => go(1),
  v: nextView,
  s: segment,
  a: accept,
  "?": () => $("help-dialog").showModal(),
};

function go(by) {
  const order = strip.order;
  const to = order[order.indexOf(state.key) + by];
  if (to) open(to);
}

function nextView() {
  const nodes = [...document.querySelectorAll("[data-view]")].filter((node) => !node.disabled && !node.hidden);
  const views = nodes.map((node) => node.dataset.view);
  setView(views[(views.indexOf(state.view) + 1) % views.length]);
}

function shortcut(event) {
  const typing = event.target.closest("input[type='text'], select, dialog");
  if (typing || event.altKey || event.isComposing) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    const again = key === "y" || (key === "z" && event.shiftKey);
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    step(again ? "redo" : "undo");
    return;
  }
  const one = state.classes[Number(key) - 1];
  if (one) choose(one.number);
  else if (KEYS[key]) {
    event.preventDefault();
    KEYS[key]();
  }
}

// ---- pictures that are added, and the download ---------------------------------------------------------------------

async function add(files) {
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

function dropping() {
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

async function download() {
  const boxes = [...document.querySelectorAll('[name="format"]:checked')];
  if (!boxes.length) return notice("Choose at least one format.");
  if (!(await saveAll())) return null;
  $("download").disabled = true;
  await tried(async () => {
    const query = boxes.map((box) => `formats=${box.value}`).join("&");
    const answer = await ask(`/api/download?${query}`, { method: "POST" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = "masks.zip";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
  $("download").disabled = false;
  return null;
}

// ---- wiring --------------------------------------------------------------------------------------------------------

$("segment").addEventListener("click", segment);
$("accept").addEventListener("click", accept);
$("clear").addEventListener("click", clear);
$("undo").addEventListener("click", () => step("undo"));
$("redo").addEventListener("click", () => step("redo"));
$("zoom-in").addEventListener("click", () => stage.zoom(1.25));
$("zoom-out").addEventListener("click", () => stage.zoom(0.8));
$("zoom-fit").addEventListener("click", () => stage.fit());
$("size").addEventListener("input", (event) => setRadius(0.5 * (largest() / 0.5) ** (event.target.value / 100)));
$("add-class").addEventListener("click", addClass);
$("threshold").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
$("threshold").addEventListener("change", keepSettings);
$("threshold-reset").addEventListener("click", resetThreshold);
$("order").addEventListener("change", arrange);
$("help").addEventListener("click", () => $("help-dialog").showModal());
$("download").addEventListener("click", () => $("download-dialog").showModal());
$("download-dialog").addEventListener("close", (event) => {
  if (event.target.returnValue === "ok") download();
  event.target.returnValue = "";
});
for (const id of ["choose", "add-pictures"]) $(id).addEventListener("click", () => $("files").click());
$("files").addEventListener("change", async (event) => {
  await add([...event.target.files]);
  event.target.value = "";
});
$("stage").addEventListener("keydown", brushKeys);
document.addEventListener("keydown", shortcut);
document.addEventListener("visibilitychange", () => document.hidden && saveAll());
window.addEventListener("beforeunload", (event) => {
  if (saves.size) event.preventDefault();
  saveAll();
});
arrows($("tools").querySelector("[role=radiogroup]"), "tool", setTool);
arrows($("views"), "view", setView);
dropping();
setTool("brush");
check(document.querySelectorAll("[data-view]"), "mask", "view");
showStatus();
await tried(load);
listen();
