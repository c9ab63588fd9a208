// The mask that the user paints: one byte per pixel of the image, and its history. 0 is not painted, which means
// background; 255 is ignored; other values are class numbers. With rough strokes, 0 is unknown and 255 background.

const MOST_HISTORY = 96 * 2 ** 20; // bytes of the history

export class Mask {
  constructor(width, height, values, rough = false) {
    this.width = width;
    this.height = height;
    this.values = values || new Uint8Array(width * height);
    this.rough = rough;
    this.past = [];
    this.future = [];
    this.before = null;
  }

  get isEmpty() {
    return this.values.every((value) => value === 0);
  }

  /** Begin a change; undo reverts it in one step. */
  begin() {
    this.before = this.values.slice();
    this.dirty = { left: this.width, top: this.height, right: 0, bottom: 0 };
  }

  /** End the change; return whether any pixel changed. */
  end() {
    const { left, top, right, bottom } = this.dirty;
    const before = this.before;
    this.before = null;
    if (right <= left || bottom <= top) return false;
    const box = { left, top, width: right - left, height: bottom - top };
    const patch = { box, old: cut(before, this.width, box), now: cut(this.values, this.width, box) };
    if (patch.old.every((value, i) => value === patch.now[i])) return false;
    this.past.push(patch);
    this.future = [];
    let size = 0;
    for (let i = this.past.length - 1; i >= 0; i--) {
      size += 2 * this.past[i].old.length;
      if (size > MOST_HISTORY && i < this.past.length - 1) {
        this.past.splice(0, i + 1);
        break;
      }
    }
    return true;
  }

  /** Cancel the change that was begun. */
  cancel() {
    if (this.before) this.values.set(this.before);
    this.before = null;
  }

  /** Replace all values in one change. */
  replace(values) {
    this.begin();
    values.forEach((value, i) => {
      if (value !== this.values[i]) this.set(i % this.width, Math.floor(i / this.width), value);
    });
    return this.end();
  }

  undo() {
    const patch = this.past.pop();
    if (!patch) return false;
    paste(this.values, this.width, patch.box, patch.old);
    this.future.push(patch);
    return true;
  }

  redo() {
    const patch = this.future.pop();
    if (!patch) return false;
    paste(this.values, this.width, patch.box, patch.now);
    this.past.push(patch);
    return true;
  }

  /** Paint all pixels with a centre within `radius` of the line between two points, and the pixels at both points. */
  stroke(from, to, radius, label) {
    const { width, height, values } = this;
    const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
    const right = Math.min(width, Math.ceil(Math.max(from.x, to.x) + radius));
    const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
    const bottom = Math.min(height, Math.ceil(Math.max(from.y, to.y) + radius));
    const dx = to.x - from.x;
    const dy = to.y - from.y;
    const length = dx * dx + dy * dy;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const px = x + 0.5 - from.x;
        const py = y + 0.5 - from.y;
        const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const ex = px - t * dx;
        const ey = py - t * dy;
        if (ex * ex + ey * ey <= radius * radius) values[y * width + x] = label;
      }
    }
    this.set(Math.floor(from.x), Math.floor(from.y), label);
    this.set(Math.floor(to.x), Math.floor(to.y), label);
    this.touch(left, top, right, bottom);
  }

  set(x, y, label) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return;
    this.values[y * this.width + x] = label;
    this.touch(x, y, x + 1, y + 1);
  }

  /** Paint the connected area of one value around a pixel. */
  fill(x, y, label) {
    const { width, height, values } = this;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const old = values[y * width + x];
    if (old === label) return;
    const waiting = [y * width + x];
    while (waiting.length) {
      const at = waiting.pop();
      if (values[at] !== old) continue;
      const row = Math.floor(at / width);
      let first = at;
      let last = at;
      while (first > row * width && values[first - 1] === old) first--;
      while (last < row * width + width - 1 && values[last + 1] === old) last++;
      values.fill(label, first, last + 1);
      this.touch(first - row * width, row, last - row * width + 1, row + 1);
      for (const other of [row - 1, row + 1]) {
        if (other < 0 || other >= height) continue;
        const shift = (other - row) * width;
        for (let i = first; i <= last; i++) {
          const begins = values[i + shift] === old && (i === first || values[i + shift - 1] !== old);
          if (begins) waiting.push(i + shift);
        }
      }
    }
  }

  touch(left, top, right, bottom) {
    this.dirty.left = Math.min(this.dirty.left, left);
    this.dirty.top = Math.min(this.dirty.top, top);
    this.dirty.right = Math.max(this.dirty.right, right);
    this.dirty.bottom = Math.max(this.dirty.bottom, bottom);
  }
}

function cut(values, stride, { left, top, width, height }) {
  const part = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = (top + y) * stride + left;
    part.set(values.subarray(from, from + width), y * width);
  }
  return part;
}

function paste(values, stride, { left, top, width, height }, part) {
  for (let y = 0; y < height; y++) values.set(part.subarray(y * width, (y + 1) * width), (top + y) * stride + left);
}
