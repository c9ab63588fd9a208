// Messages to the user, most of them about mistakes.

import { $, button } from "./dom.js";

/** Show a notice; it replaces an earlier notice of the same kind. */
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

/** Run a request and show its error if the server refuses it. */
export async function tried(action) {
  try {
    return await action();
  } catch (error) {
    notice(error.message);
    return null;
  }
}
