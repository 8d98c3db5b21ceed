// @ts-check
/**
 * Newest pictures, one round after the other: the next is asked for once this one is drawn, so a
 * slow page gets fewer pictures and never a backlog, and a hidden one asks for nothing. At most four
 * rounds a second, pictures and words alike, because digits that dance cannot be read.
 */

const PACE_MS = 250;
const RETRY_MS = 2000;
const decoder = new TextDecoder();

/** @typedef {Record<string, any>} Header */

/** @param {number} ms */
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** `u32 header length | u32 picture length | JSON | JPEG`, again and again. @param {ArrayBuffer} buffer */
export function partsOf(buffer) {
  const view = new DataView(buffer);
  /** @type {{header: Header, picture: Blob}[]} */
  const found = [];
  for (let at = 0; at < buffer.byteLength; ) {
    const [head, size] = [view.getUint32(at), view.getUint32(at + 4)];
    const header = JSON.parse(decoder.decode(new Uint8Array(buffer, at + 8, head)));
    const picture = new Blob([new Uint8Array(buffer, at + 8 + head, size)], { type: "image/jpeg" });
    found.push({ header, picture });
    at += 8 + head + size;
  }
  return found;
}

/** @returns {Promise<void>} when somebody looks */
function seen() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", () => done(), { once: true }));
}

/**
 * @param {(header: Header, picture: Blob) => Promise<void>} show
 * @param {(sentence: string) => void} refused what the device says instead of pictures; "" when it shows some
 */
export async function follow(show, refused) {
  for (let after = 0; ; ) {
    await seen();
    try {
      const answer = await fetch(`/api/live?after=${after}`, { cache: "no-store" });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) {
        const said = await answer.json();
        refused(`${said.detail}. ${said.fix}`);
        await pause(RETRY_MS);
        continue;
      }
      for (const { header, picture } of partsOf(await answer.arrayBuffer())) {
        after = Math.max(after, header.number);
        await show(header, picture);
      }
      refused("");
      await pause(PACE_MS);
    } catch {
      after = 0; // a device that began anew counts from the beginning
      await pause(RETRY_MS);
    }
  }
}
