// @ts-check
/** A ZIP of files as they are (stored, not packed): what a browser sends of a folder (APPNOTE.TXT 4.3). */

const TABLE = new Uint32Array(256).map((_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** The checksum of a file (CRC-32). @param {Uint8Array} bytes */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** A record of little-endian numbers: [value, bytes] each. @param {number[][]} fields */
function record(fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [, size]) => sum + size, 0)));
  let at = 0;
  for (const [value, size] of fields) {
    if (size === 4) view.setUint32(at, value, true);
    else view.setUint16(at, value, true);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

/** @param {{name: string, data: Blob}[]} files @returns {Promise<Blob>} */
export async function zipOf(files) {
  /** @type {BlobPart[]} */
  const parts = [];
  /** @type {Uint8Array[]} */
  const index = [];
  let offset = 0;
  for (const { name, data } of files) {
    const bytes = new Uint8Array(await data.arrayBuffer());
    const title = new TextEncoder().encode(name);
    // version 2.0, names in UTF-8, stored, 1 January 1980
    const about = [[20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [title.length, 2], [0, 2]]; // prettier-ignore
    const head = record([[0x04034b50, 4], ...about]);
    parts.push(head, title, bytes);
    index.push(record([[0x02014b50, 4], [20, 2], ...about, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), title); // prettier-ignore
    offset += head.length + title.length + bytes.length;
  }
  const size = index.reduce((sum, part) => sum + part.length, 0);
  const end = record([[0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]]); // prettier-ignore
  return new Blob([...parts, ...index, end].map((part) => /** @type {BlobPart} */ (part)), { type: "application/zip" });
}
