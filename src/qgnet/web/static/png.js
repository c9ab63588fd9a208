// Read and write grey 8-bit PNGs without a canvas: exact, whatever the browser does to colours or canvases.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** Values (width * height bytes) → Blob with a PNG. */
export async function encodeGrey(values, width, height) {
  const rows = new Uint8Array(height * (width + 1)); // each row begins with its filter, 0
  for (let y = 0; y < height; y++) rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, 8); // bits per pixel; all other fields are 0: grey, deflate, adaptive filters, not interlaced
  const data = await through(rows, new CompressionStream("deflate"));
  const parts = [chunk("IHDR", new Uint8Array(head.buffer)), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob([new Uint8Array(SIGNATURE), ...parts], { type: "image/png" });
}

/** ArrayBuffer with a grey 8-bit PNG, not interlaced → {values, width, height}. */
export async function decodeGrey(buffer) {
  const view = new DataView(buffer);
  const data = [];
  let width = 0;
  let height = 0;
  for (let at = 8; at < buffer.byteLength; ) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...new Uint8Array(buffer, at + 4, 4));
    if (name === "IHDR") {
      width = view.getUint32(at + 8);
      height = view.getUint32(at + 12);
      if (view.getUint8(at + 16) !== 8 || view.getUint8(at + 17) !== 0 || view.getUint8(at + 20) !== 0) {
        throw new Error("The mask is no grey PNG of 8 bits.");
      }
    }
    if (name === "IDAT") data.push(new Uint8Array(buffer, at + 8, length));
    at += length + 12;
  }
  const rows = await through(new Blob(data), new DecompressionStream("deflate"));
  return { values: unfiltered(rows, width, height), width, height };
}

async function through(data, transform) {
  const stream = new Blob([data]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (let i = 4; i < data.length + 8; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  view.setUint32(data.length + 8, ~crc >>> 0);
  return bytes;
}

function unfiltered(rows, width, height) {
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = y * (width + 1);
    const to = y * width;
    const filter = rows[from];
    for (let x = 0; x < width; x++) {
      const left = x ? values[to + x - 1] : 0;
      const up = y ? values[to + x - width] : 0;
      const corner = x && y ? values[to + x - width - 1] : 0;
      values[to + x] = rows[from + 1 + x] + predicted(filter, left, up, corner);
    }
  }
  return values;
}

function predicted(filter, left, up, corner) {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return up;
  if (filter === 3) return (left + up) >> 1;
  const near = left + up - corner;
  const toLeft = Math.abs(near - left);
  const toUp = Math.abs(near - up);
  const toCorner = Math.abs(near - corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}
