// Find and create elements of the page, and groups of buttons of which one is on.

export const $ = (id) => document.getElementById(id);

export function button(label, icon, act, className = "") {
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

/** Switch on the button of a group whose `data-…` has this value; switch off the others. */
export function check(nodes, value, of) {
  for (const node of nodes) {
    const on = node.dataset[of] === value;
    node.setAttribute("aria-checked", on);
    node.tabIndex = on ? 0 : -1;
  }
}

/** Let arrow keys move between the buttons of a group of which one is on. */
export function arrows(group, of, set) {
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
