// The large canvas: an image, its overlay, zoom and pan, and strokes by pointers.

import { colourOf } from "./found.js";

const MOST_ZOOM = 64; // screen pixels per pixel of the image
const INSIDE = 115; // opacity of a mask, of 255

export class Stage {
  constructor(canvas, cursor) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.on = null; // the handlers of the user's actions: begin(), stroke(from, to, erase), end(), cancel(), fill(point)
    this.shown = null; // {image, width, height}: the shown image, and its original size
    this.labels = null; // bytes at the image's original size
    this.objects = null; // numbers of single objects at the same size; their edges are drawn, too
    this.map = null; // a canvas that is drawn over the image instead of the labels
    this.view = { scale: 1, x: 0, y: 0 }; // screen = image * scale + (x, y)
    this.tool = "brush";
    this.radius = 10; // in pixels of the image
    this.point = null; // position of the cursor, in pixels of the image
    this.pointers = new Map(); // id → position on the screen, for the pressed pointers in use
    this.held = null; // id of the pressed pen or mouse
    this.stroking = null; // {id, point, erase}
    this.panning = null;
    this.pinch = null;
    this.waiting = false;
    this.fitted = true;
    this.drawnRatio = 0; // the pixel ratio that the canvases were sized for
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.watchRatio();
    this.listen();
  }

  show(image) {
    this.shown = image;
    this.labels = null;
    this.objects = null;
    this.map = null;
    this.point = null;
    this.fit();
  }

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  /** Watch the pixel ratio: another screen or the browser's zoom can change it without changing the size in CSS pixels. */
  watchRatio() {
    const change = () => {
      this.watchRatio();
      this.draw();
    };
    matchMedia(`(resolution: ${this.ratio}dppx)`).addEventListener("change", change, { once: true });
  }

  /** Resize to whole pixels: a canvas stretched by a fraction would show things at wrong places. */
  resize() {
    this.drawnRatio = this.ratio;
    const area = this.canvas.parentElement.getBoundingClientRect();
    for (const one of [this.canvas, this.cursor]) {
      one.style.width = `${Math.floor(area.width)}px`;
      one.style.height = `${Math.floor(area.height)}px`;
      one.width = Math.max(1, Math.round(this.canvas.clientWidth * this.ratio));
      one.height = Math.max(1, Math.round(this.canvas.clientHeight * this.ratio));
    }
    if (this.fitted) this.fit();
    this.draw();
  }

  /** Show the whole image, centred. */
  fit() {
    if (!this.shown) return this.draw();
    const { width, height } = this.shown;
    const scale = Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height) || 1;
    this.view = {
      scale,
      x: (this.canvas.clientWidth - width * scale) / 2,
      y: (this.canvas.clientHeight - height * scale) / 2,
    };
    this.fitted = true;
    this.draw();
  }

  /** Zoom by a factor around a fixed point of the screen (relative to the canvas). */
  zoom(factor, at = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 }) {
    if (!this.shown) return;
    const least = 0.5 * Math.min(
      this.canvas.clientWidth / this.shown.width,
      this.canvas.clientHeight / this.shown.height,
      1,
    );
    const scale = Math.min(MOST_ZOOM, Math.max(least, this.view.scale * factor));
    const by = scale / this.view.scale;
    this.view = { scale, x: at.x - (at.x - this.view.x) * by, y: at.y - (at.y - this.view.y) * by };
    this.fitted = false;
    this.draw();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.fitted = false;
    this.draw();
  }

  toImage({ x, y }) {
    return { x: (x - this.view.x) / this.view.scale, y: (y - this.view.y) / this.view.scale };
  }

  onScreen({ x, y }) {
    return { x: x * this.view.scale + this.view.x, y: y * this.view.scale + this.view.y };
  }

  /** Draw in the next frame. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.drawNow();
      this.drawCursor();
    });
  }

  drawNow() {
    if (this.drawnRatio !== this.ratio) this.resize();
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.shown) return;
    const { image, width, height } = this.shown;
    const scale = this.view.scale * this.ratio;
    context.setTransform(scale, 0, 0, scale, this.view.x * this.ratio, this.view.y * this.ratio);
    context.imageSmoothingEnabled = scale < 3;
    context.drawImage(image, 0, 0, width, height);
    if (this.map) {
      context.imageSmoothingEnabled = true;
      context.drawImage(this.map, 0, 0, width, height);
    } else if (this.labels) {
      this.drawLabels(context, scale);
    }
  }

  /** Look up the label of each pixel of the screen, so that the cost does not depend on the size of the mask. */
  drawLabels(context, scale) {
    const { width, height } = this.shown;
    const ox = this.view.x * this.ratio;
    const oy = this.view.y * this.ratio;
    const left = Math.max(0, Math.floor(ox));
    const top = Math.max(0, Math.floor(oy));
    const right = Math.min(this.canvas.width, Math.ceil(ox + width * scale));
    const bottom = Math.min(this.canvas.height, Math.ceil(oy + height * scale));
    if (right <= left || bottom <= top) return;
    const columns = new Int32Array(right - left);
    for (let x = left; x < right; x++) {
      columns[x - left] = Math.min(width - 1, Math.max(0, Math.floor((x + 0.5 - ox) / scale)));
    }
    const data = new ImageData(right - left, bottom - top);
    const pixels = new Uint32Array(data.data.buffer);
    const inside = new Uint32Array(256);
    const edge = new Uint32Array(256);
    for (let label = 1; label < 256; label++) {
      const [r, g, b] = colourOf(label);
      inside[label] = (INSIDE << 24) | (b << 16) | (g << 8) | r;
      edge[label] = (255 << 24) | (b << 16) | (g << 8) | r;
    }
    const { labels, objects } = this;
    const columnCount = columns.length;
    let above = new Uint16Array(columnCount); // number of the class; the upper bits are the object's
    let row = new Uint16Array(columnCount);
    for (let y = top; y < bottom; y++) {
      const from = Math.min(height - 1, Math.max(0, Math.floor((y + 0.5 - oy) / scale))) * width;
      const at = (y - top) * columnCount;
      let before = 0;
      for (let x = 0; x < columnCount; x++) {
        const number = labels[from + columns[x]];
        const label = objects && number ? number | (objects[from + columns[x]] << 8) : number;
        row[x] = label;
        if (number) pixels[at + x] = label !== before || label !== above[x] ? edge[number] : inside[number];
        if (before && before !== label && x) pixels[at + x - 1] = edge[before & 255];
        if (above[x] && above[x] !== label && y > top) pixels[at + x - columnCount] = edge[above[x] & 255];
        before = label;
      }
      [above, row] = [row, above];
    }
    const layer = new OffscreenCanvas(data.width, data.height);
    layer.getContext("2d").putImageData(data, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(layer, left, top);
  }

  /** Draw the ring that shows the brush. */
  drawCursor() {
    const context = this.cursor.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.cursor.width, this.cursor.height);
    if (!this.point || !this.shown || this.tool === "hand") return;
    const { x, y } = this.onScreen(this.point);
    const radius = this.tool === "fill" ? 4 : Math.max(2, this.radius * this.view.scale);
    context.scale(this.ratio, this.ratio);
    for (const [colour, line] of [["rgba(0,0,0,0.75)", 3], ["white", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  listen() {
    const { canvas } = this;
    const where = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
      this.zoom(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), where(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.shown) return;
      event.preventDefault();
      const touches = event.pointerType === "touch";
      if (touches && this.held !== null) return; // the palm of the drawing hand
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      if (!touches) this.hold(event.pointerId);
      this.pointers.set(event.pointerId, where(event));
      if (touches && this.pointers.size === 2) return this.beginPinch();
      if (this.pointers.size > 1) return;
      if (event.button === 1 || this.tool === "hand") {
        this.panning = where(event);
        return;
      }
      this.press(event, this.toImage(where(event)));
    });
    canvas.addEventListener("pointermove", (event) => {
      const known = this.pointers.has(event.pointerId);
      if (this.stroking ? event.pointerId !== this.stroking.id : event.pointerType === "touch" && !known) return;
      const at = where(event);
      this.point = this.toImage(at);
      if (known) this.pointers.set(event.pointerId, at);
      if (this.pinch) this.movePinch();
      else if (this.panning && known) {
        this.pan(at.x - this.panning.x, at.y - this.panning.y);
        this.panning = at;
      } else if (this.stroking) {
        const parts = event.getCoalescedEvents?.() || [];
        for (const one of parts.length ? parts : [event]) this.drag(this.toImage(where(one)));
      }
      this.drawCursor();
    });
    const release = (event) => {
      if (!this.pointers.delete(event.pointerId)) return;
      if (this.held === event.pointerId) this.held = null;
      if (this.pointers.size < 2) this.pinch = null;
      this.panning = null;
      if (this.stroking?.id !== event.pointerId) return;
      this.stroking = null;
      if (event.type === "pointerup") this.on.end();
      else this.on.cancel();
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", (event) => {
      if (this.stroking && this.stroking.id !== event.pointerId) return;
      this.point = null;
      this.drawCursor();
    });
  }

  press({ pointerId, button }, point) {
    if (this.tool === "fill") return this.on.fill(point);
    if (!this.on.begin()) return;
    const erase = this.tool === "eraser" || button === 2 || button === 5;
    this.stroking = { id: pointerId, point, erase };
    this.on.stroke(point, point, erase);
  }

  drag(point) {
    this.on.stroke(this.stroking.point, point, this.stroking.erase);
    this.stroking.point = point;
  }

  /** A pen or the mouse is pressed: cancel the strokes of fingers, and ignore fingers until it is released. */
  hold(id) {
    this.leave();
    this.pinch = null;
    this.pointers.clear();
    this.held = id;
  }

  leave() {
    if (this.stroking) this.on.cancel();
    this.stroking = null;
    this.panning = null;
  }

  beginPinch() {
    this.leave();
    this.pinch = this.spread();
  }

  spread() {
    const [a, b] = [...this.pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, length: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  }

  movePinch() {
    const now = this.spread();
    this.pan(now.x - this.pinch.x, now.y - this.pinch.y);
    this.zoom(now.length / this.pinch.length, now);
    this.pinch = now;
  }
}
