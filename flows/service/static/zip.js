// A zip archive of files as a Blob, stored and not compressed: clips are compressed already, and nothing is held in
// memory but headers. The same files give the same bytes, so that the service knows them again.

const UTF8 = 0x0800, STORED = 0, PLAIN = 20, LARGE = 45;
const TIME = 0, DATE = ((2026 - 1980) << 9) | (1 << 5) | 1;
const MOST = 0xffffffff, MOST_ENTRIES = 0xffff;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** Files ({path, file}) as one archive; `most`: the largest size that is written in 32 bits, beyond it is zip64. */
export async function zipped(files, { onRead = () => {}, signal, most = MOST } = {}) {
  const parts = [], directory = [];
  let offset = 0;
  for (const { path, file } of [...files].sort((one, other) => (one.path < other.path ? -1 : 1))) {
    const name = new TextEncoder().encode(path);
    const crc = await checksum(file, onRead, signal);
    const head = localHead(name, crc, file.size, most);
    directory.push(entry(name, crc, file.size, offset, most));
    parts.push(head, file);
    offset += head.length + file.size;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  return new Blob([...parts, ...directory, ending(files.length, length, offset, most)], { type: "application/zip" });
}

async function checksum(file, onRead, signal) {
  let crc = MOST;
  const reader = file.stream().getReader();
  for (;;) {
    signal?.throwIfAborted();
    const { done, value } = await reader.read();
    if (done) return (crc ^ MOST) >>> 0;
    for (let at = 0; at < value.length; at++) crc = TABLE[(crc ^ value[at]) & 0xff] ^ (crc >>> 8);
    onRead(value.length);
  }
}

function localHead(name, crc, size, most) {
  const large = size >= most, shown = large ? MOST : size;
  const extra = large ? bytes([2, 1], [2, 16], [8, size], [8, size]) : bytes();
  const fixed = bytes([4, 0x04034b50], [2, large ? LARGE : PLAIN], [2, UTF8], [2, STORED], [2, TIME], [2, DATE], [4, crc],
    [4, shown], [4, shown], [2, name.length], [2, extra.length]);
  return joined(fixed, name, extra);
}

function entry(name, crc, size, offset, most) {
  const long = [...(size >= most ? [size, size] : []), ...(offset >= most ? [offset] : [])];
  const extra = long.length ? bytes([2, 1], [2, 8 * long.length], ...long.map(value => [8, value])) : bytes();
  const version = long.length ? LARGE : PLAIN, shown = size >= most ? MOST : size;
  const fixed = bytes([4, 0x02014b50], [2, version], [2, version], [2, UTF8], [2, STORED], [2, TIME], [2, DATE], [4, crc],
    [4, shown], [4, shown], [2, name.length], [2, extra.length], [2, 0], [2, 0], [2, 0], [4, 0],
    [4, offset >= most ? MOST : offset]);
  return joined(fixed, name, extra);
}

function ending(count, length, offset, most) {
  const large = count >= MOST_ENTRIES || length >= most || offset >= most;
  const long = large ? joined(
    bytes([4, 0x06064b50], [8, 44], [2, LARGE], [2, LARGE], [4, 0], [4, 0], [8, count], [8, count], [8, length], [8, offset]),
    bytes([4, 0x07064b50], [4, 0], [8, offset + length], [4, 1]),
  ) : bytes();
  const shown = large ? MOST_ENTRIES : count;
  return joined(long, bytes([4, 0x06054b50], [2, 0], [2, 0], [2, shown], [2, shown], [4, large ? MOST : length],
    [4, large ? MOST : offset], [2, 0]));
}

function bytes(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else if (size === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}
