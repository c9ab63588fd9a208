// The thumbnails of the folder's images in one row; thumbnails out of sight are not loaded.

import { getBytes } from "./api.js";
import { labelsOf, loadProbabilities, paintLabels } from "./found.js";
import { decodeGrey } from "./png.js";
import { state } from "./state.js";

export class Strip {
  /** `choose(key)` is called when the user picks an image. */
  constructor(list, choose) {
    this.list = list;
    this.choose = choose;
    this.items = new Map(); // key → {image, node, thumbnail, layer, badge, small, seen}
    this.current = null;
    this.observer = new IntersectionObserver((entries) => entries.forEach((entry) => this.sight(entry)), {
      root: list,
      rootMargin: "0px 600px",
    });
    list.addEventListener("click", (event) => {
      const node = event.target.closest("[data-key]");
      if (node) this.choose(node.dataset.key);
    });
    list.addEventListener("keydown", (event) => this.move(event));
  }

  get order() {
    return [...this.list.children].map((node) => node.dataset.key);
  }

  /** Show these images in this order. */
  fill(images) {
    const nodes = images.map((image) => {
      const item = this.items.get(image.key) || this.make(image);
      item.image = image;
      this.describe(item);
      return item.node;
    });
    this.list.replaceChildren(...nodes);
    const left = new Set(images.map(({ key }) => key));
    for (const [key, item] of this.items) {
      if (left.has(key)) continue;
      this.observer.unobserve(item.node);
      this.items.delete(key);
    }
  }

  make(image) {
    const node = document.createElement("li");
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", "false");
    node.dataset.key = image.key;
    node.tabIndex = -1;
    const frame = document.createElement("span");
    frame.className = "frame";
    const thumbnail = document.createElement("img");
    thumbnail.alt = "";
    thumbnail.hidden = true;
    thumbnail.addEventListener("load", () => (thumbnail.hidden = false));
    thumbnail.addEventListener("error", () => node.classList.add("broken"));
    const layer = document.createElement("canvas");
    layer.setAttribute("aria-hidden", "true");
    const badge = document.createElement("span");
    badge.className = "badge";
    const name = document.createElement("span");
    name.className = "name";
    frame.append(thumbnail, layer, badge);
    node.append(frame, name);
    const item = { image, node, thumbnail, layer, badge, name, small: null, seen: false };
    this.items.set(image.key, item);
    this.observer.observe(node);
    return item;
  }

  /** Show the state of an image: its score, or that it is painted. */
  describe(item) {
    const { painted, outcome, name } = item.image;
    const scores = Object.values(outcome?.scores || {});
    let text = "";
    let kind = "";
    if (painted) [text, kind] = painted.support ? ["support", "support"] : ["corrected", "corrected"];
    else if (outcome?.error) [text, kind] = ["unreadable", "error"];
    else if (scores.length) [text, kind] = [Math.max(...scores).toFixed(2), "score"];
    item.badge.textContent = text;
    item.badge.dataset.kind = kind;
    const stale = kind === "score" && outcome.stale;
    item.badge.classList.toggle("stale", stale);
    item.name.textContent = name;
    item.node.title = outcome?.error || name;
    const said = kind === "score" ? `score ${text}${stale ? " of an earlier run" : ""}` : text;
    item.node.setAttribute("aria-label", [name, said].filter(Boolean).join(", "));
  }

  /** An image and its overlay have changed. */
  update(image) {
    const item = this.items.get(image.key);
    if (!item) return;
    item.image = image;
    item.small = null;
    this.describe(item);
    if (item.seen) this.overlay(item);
  }

  /** The states of images have changed, but not their overlays. */
  mark(images) {
    for (const [key, item] of this.items) {
      if (item.image === images.get(key)) continue;
      item.image = images.get(key);
      this.describe(item);
      if (item.seen) this.overlay(item);
    }
  }

  sight({ target, isIntersecting }) {
    const item = this.items.get(target.dataset.key);
    item.seen = isIntersecting;
    if (!isIntersecting) {
      item.small = null;
      return;
    }
    if (!item.thumbnail.src) item.thumbnail.src = `/api/images/${item.image.key}/thumbnail.jpg`;
    this.overlay(item);
  }

  /** Draw the mask or the result over the thumbnail. */
  async overlay(item) {
    const { image } = item;
    item.small ||= this.load(image);
    const small = await item.small;
    if (item.image !== image) return;
    const layer = item.layer;
    if (!small) return layer.getContext("2d").clearRect(0, 0, layer.width, layer.height);
    [layer.width, layer.height] = [small.width, small.height];
    const labels = small.labels || labelsOf(small.probabilities, image.outcome, state);
    const data = new ImageData(small.width, small.height);
    paintLabels(data.data, labels, small.width, small.height);
    layer.getContext("2d").putImageData(data, 0, 0);
  }

  async load({ key, painted, outcome }) {
    try {
      if (painted) {
        const bytes = await getBytes(`/api/images/${key}/mask.png?small=true`);
        if (!bytes) return null;
        const { values, width, height } = await decodeGrey(bytes);
        return { labels: values, width, height };
      }
      const probabilities = await loadProbabilities(key, outcome, true);
      const [first] = Object.values(probabilities);
      return first ? { probabilities, width: first.width, height: first.height } : null;
    } catch {
      return null; // the page shows elsewhere that the server is unreachable
    }
  }

  /** The thresholds have changed. */
  redraw() {
    for (const item of this.items.values()) if (item.seen && !item.image.painted) this.overlay(item);
  }

  select(key) {
    const before = this.items.get(this.current);
    if (before) {
      before.node.setAttribute("aria-selected", "false");
      before.node.tabIndex = -1;
    }
    this.current = key;
    const now = this.items.get(key);
    if (!now) return;
    now.node.setAttribute("aria-selected", "true");
    now.node.tabIndex = 0;
    this.reveal();
  }

  /** Scroll the strip to the chosen image, without scrolling the page. */
  reveal() {
    const node = this.items.get(this.current)?.node;
    if (!node) return;
    const { left, right } = node.getBoundingClientRect();
    const box = this.list.getBoundingClientRect();
    if (left < box.left || right > box.right) this.list.scrollLeft += left - box.left - (box.width - node.offsetWidth) / 2;
  }

  move(event) {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    const order = this.order;
    const at = order.indexOf(this.current);
    let to = at + (steps[event.key] || 0);
    if (event.key === "Home") to = 0;
    if (event.key === "End") to = order.length - 1;
    to = Math.min(order.length - 1, Math.max(0, to));
    if (to === at) return;
    event.preventDefault();
    this.choose(order[to]);
    this.items.get(order[to]).node.focus({ preventScroll: true });
  }
}
