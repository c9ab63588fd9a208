// Show, choose, change and save classes and their thresholds.

import { showAbout, showUnpainted } from "./about.js";
import { sendJson } from "./api.js";
import { $, button } from "./dom.js";
import { colourOf, IGNORE } from "./found.js";
import { notice, tried } from "./notices.js";
import { countObjects, forgetObjects } from "./objects.js";
import { saveAll } from "./saving.js";
import { changed, labels, open, showImage, strip } from "./shown.js";
import { nameOf, nameOfOther, state } from "./state.js";
import { stage } from "./tools.js";

export function showClasses() {
  $("classes").replaceChildren(...[...state.classes, { number: IGNORE, name: nameOfOther() }].map(row));
  showUnpainted();
  showThreshold();
}

function row({ number, name }, i) {
  const node = document.createElement("li");
  node.classList.toggle("on", number === state.number);
  node.append(pick(number, name, i));
  if (number === IGNORE) {
    node.append(text("label", name));
    return node;
  }
  node.append(field(number, name, i), facts(number));
  if (state.classes.length > 1) node.append(button(`Take out ${name}`, "i-close", () => takeOut(number), "remove"));
  return node;
}

function text(className, content) {
  const node = document.createElement("span");
  node.className = className;
  node.textContent = content;
  return node;
}

/** The button that chooses the class to paint, in the colour of the class. */
function pick(number, name, i) {
  const node = document.createElement("button");
  node.type = "button";
  node.className = "pick";
  node.title = number === IGNORE ? "" : `Paint this class (${i + 1})`;
  node.setAttribute("aria-label", `Paint ${name}`);
  node.setAttribute("aria-pressed", number === state.number);
  const dot = text("dot", "");
  dot.style.background = `rgb(${colourOf(number)})`;
  node.append(dot);
  node.addEventListener("click", () => choose(number));
  return node;
}

/** The text field for the name of a class. */
function field(number, name, i) {
  const node = document.createElement("input");
  node.type = "text";
  node.value = name;
  node.maxLength = 60;
  node.setAttribute("aria-label", `Name of class ${i + 1}`);
  node.addEventListener("change", () => rename(number, node));
  return node;
}

/** The quality of a class after a run. */
function facts(number) {
  const expected = state.learnt[number]?.expected;
  const node = text("facts", expected === undefined ? "" : `IoU ${expected.toFixed(2)}`);
  node.title = "How well the supports find each other; of one alone, its mirror image";
  return node;
}

export function choose(number) {
  state.number = number;
  showClasses();
  if (state.maps.includes(state.view)) showImage();
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

export function addClass() {
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
  if (!(await saveAll())) return; // the class may have been painted just now
  const classes = state.classes.filter((one) => one.number !== number);
  const { [number]: _, ...thresholds } = state.chosen;
  if (!(await tried(() => sendJson("PUT", "/api/settings", { classes, thresholds })))) return;
  [state.classes, state.chosen] = [classes, thresholds];
  if (state.number === number) state.number = classes[0].number;
  forgetFound(number);
  showClasses();
  if (state.key) await open(state.key);
}

/** Delete the results of a removed class: a new class may get its number. */
function forgetFound(number) {
  for (const one of state.images.values()) {
    if (!one.outcome) continue;
    const { [number]: _, ...scores } = one.outcome.scores;
    changed({ ...one, outcome: { ...one.outcome, scores } });
  }
  const { [number]: _, ...learnt } = state.learnt;
  state.learnt = learnt;
}

function showThreshold() {
  const value = state.chosen[state.number] ?? state.learnt[state.number]?.threshold;
  $("threshold").disabled = value === undefined;
  $("threshold").value = value ?? 0.5;
  $("threshold-of").textContent = value === undefined ? "After the first run" : nameOf(state.number);
  $("threshold-value").textContent = value === undefined ? "" : value.toFixed(2);
  $("threshold-reset").disabled = state.chosen[state.number] === undefined;
}

export function setThreshold(value) {
  state.chosen = { ...state.chosen, [state.number]: value };
  forgetObjects();
  showThreshold();
  showAbout();
  if (!state.mask && state.view === "mask") {
    stage.labels = labels();
    stage.draw();
  }
  strip.redraw();
}

export function resetThreshold() {
  const { [state.number]: _, ...others } = state.chosen;
  state.chosen = others;
  forgetObjects();
  showThreshold();
  showImage();
  strip.redraw();
  keepSettings();
}

export async function keepSettings() {
  const kept = { classes: state.classes, thresholds: state.chosen };
  if (await tried(() => sendJson("PUT", "/api/settings", kept))) countObjects();
}
