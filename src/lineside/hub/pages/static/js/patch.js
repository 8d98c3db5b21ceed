// @ts-check
/** JSON Patch (RFC 6902) on plain data; the document handed in is not changed. */

/** @typedef {{op: string, path: string, from?: string, value?: any}} Operation */

/** The parts of a JSON Pointer (RFC 6901). @param {string} pointer */
export function parts(pointer) {
  if (pointer === "") return [];
  if (!pointer.startsWith("/")) throw new Error(`${pointer} is no JSON Pointer`);
  return pointer.slice(1).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** @param {any} node @param {string} key */
function step(node, key) {
  if (node === null || typeof node !== "object") throw new Error(`nothing at ${key}`);
  if (Array.isArray(node)) {
    if (!/^(0|[1-9]\d*)$/.test(key) || Number(key) >= node.length) throw new Error(`no place ${key}`);
    return node[Number(key)];
  }
  if (!Object.hasOwn(node, key)) throw new Error(`nothing at ${key}`);
  return node[key];
}

/** @param {any} document @param {string} pointer */
function read(document, pointer) {
  return parts(pointer).reduce(step, document);
}

/**
 * A copy along the path only: what is not on it stays shared.
 * @param {any} node @param {string[]} path @param {(parent: any, key: string) => void} change
 * @returns {any}
 */
function along(node, path, change) {
  const copy = Array.isArray(node) ? [...node] : { ...node };
  const [key, ...rest] = path;
  if (rest.length) copy[key] = along(step(node, key), rest, change);
  else change(copy, key);
  return copy;
}

/** @param {any} document @param {string} pointer @param {any} value */
function add(document, pointer, value) {
  const path = parts(pointer);
  if (!path.length) return value;
  return along(document, path, (parent, key) => {
    if (!Array.isArray(parent)) return void (parent[key] = value);
    const place = key === "-" ? parent.length : Number(key);
    if (!Number.isInteger(place) || place < 0 || place > parent.length) throw new Error(`no place ${key}`);
    parent.splice(place, 0, value);
  });
}

/** @param {any} document @param {string} pointer */
function remove(document, pointer) {
  const path = parts(pointer);
  if (!path.length) return null;
  return along(document, path, (parent, key) => {
    step(parent, key);
    if (Array.isArray(parent)) parent.splice(Number(key), 1);
    else delete parent[key];
  });
}

/** @param {any} document @param {string} pointer @param {any} value */
function replace(document, pointer, value) {
  const path = parts(pointer);
  if (!path.length) return value;
  return along(document, path, (parent, key) => {
    step(parent, key);
    parent[key] = value;
  });
}

/** @param {any} a @param {any} b @returns {boolean} */
function same(a, b) {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [left, right] = [Object.keys(a), Object.keys(b)];
  return left.length === right.length && left.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
}

/** @param {any} document @param {Operation} operation */
function one(document, operation) {
  const { op, path, from = "", value } = operation;
  if (op === "add") return add(document, path, value);
  if (op === "remove") return remove(document, path);
  if (op === "replace") return replace(document, path, value);
  if (op === "copy") return add(document, path, read(document, from));
  if (op === "move") return add(remove(document, from), path, read(document, from));
  if (op === "test" && same(read(document, path), value)) return document;
  throw new Error(`${op} ${path} does not hold`);
}

/** The document after all operations, or an error: then ask for the whole. @param {any} document @param {Operation[]} operations */
export function applyPatch(document, operations) {
  return operations.reduce(one, document);
}
