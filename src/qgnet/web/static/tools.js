// The tools of the stage: the chosen tool and the radius of the brush.

import { $, check } from "./dom.js";
import { Stage } from "./stage.js";

export const stage = new Stage($("stage"), $("cursor"));

export function setTool(tool) {
  stage.tool = tool;
  $("stage").dataset.tool = tool;
  check(document.querySelectorAll("button[data-tool]"), tool, "tool");
  stage.drawCursor();
}

/** Radius in pixels of the image ↔ value of the slider, 0 … 100; each step multiplies the radius by the same factor. */
const largest = () => Math.max(4, Math.max(stage.shown?.width || 0, stage.shown?.height || 0) / 6);

export function setRadius(radius) {
  stage.radius = Math.min(largest(), Math.max(0.5, radius));
  $("size").value = (100 * Math.log(stage.radius / 0.5)) / Math.log(largest() / 0.5);
  $("size-value").textContent = `${Math.round(2 * stage.radius)} px`;
  stage.drawCursor();
}

/** Set the radius to the position of the slider. */
export const setSize = (at) => setRadius(0.5 * (largest() / 0.5) ** (at / 100));
