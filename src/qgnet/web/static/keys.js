// The keyboard: the brush on the image, and shortcuts for the whole page.

import { choose } from "./classes.js";
import { $ } from "./dom.js";
import { accept, begin, end, fill, snap, step, stroke } from "./painting.js";
import { segment } from "./runs.js";
import { leave, open, setView, strip } from "./shown.js";
import { state } from "./state.js";
import { setRadius, setTool, stage } from "./tools.js";

/** Use the brush by keys: arrows move it, Space paints, Shift and arrows paint a line. */
export function brushKeys(event) {
  const move = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
  if (!stage.shown || state.shown !== state.key || (!move && event.key !== " ") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const { width, height } = stage.shown;
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
  g: snap,
  escape: leave,
  s: segment,
  a: accept,
  "?": () => $("help-dialog").showModal(),
};

const PUNCTUATION = { BracketLeft: "[", BracketRight: "]", Comma: ",", Period: ".", Minus: "-", Equal: "=" };

/** The pressed key; for layouts of another script, the key of a Latin keyboard at the same place. */
function keyOf({ key, code }) {
  if (key.length > 1 || /[\p{ASCII}\p{Script=Latin}]/u.test(key)) return key.toLowerCase();
  return PUNCTUATION[code] || code.replace(/^(Key|Digit)/, "").toLowerCase();
}

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

export function shortcut(event) {
  const typing = event.target.closest("input[type='text'], select, dialog");
  if (typing || event.altKey || event.isComposing) return;
  const key = keyOf(event);
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
