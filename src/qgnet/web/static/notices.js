// What the user is told beside the work, mistakes above all.

import { $, button } from "./dom.js";

/** Say something; a second notice of the same kind takes the place of the first. */
export function notice(text, kind = "") {
  const node = document.createElement("div");
  node.className = "notice";
  node.dataset.kind = kind || text;
  const span = document.createElement("span");
  span.textContent = text;
  node.append(span, button("Close", "i-close", () => node.remove()));
  forget(node.dataset.kind);
  $("notices").append(node);
}

export function forget(kind) {
  for (const node of [...$("notices").children]) if (node.dataset.kind === kind) node.remove();
}

/** Run what may be refused; the refusal is shown. */
export async function tried(action) {
  try {
    return await action();
  } catch (error) {
    notice(error.message);
    return null;
  }
}
