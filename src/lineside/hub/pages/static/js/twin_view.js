// @ts-check
/** The camera of the scene: as near as the whole factory allows, turned by dragging. */

const RISE = 0.64;
const RISE_UPRIGHT = 1.15; // a tall picture is filled by looking down more
const WIDEST = 1.1;

/** The corners of everything that stands in the scene, each thing with its own box. @param {any} three @param {any[]} things */
export function cornersOf(three, things) {
  return things.flatMap((thing) => {
    const { min, max } = new three.Box3().setFromObject(thing);
    return [min.x, max.x].flatMap((x) =>
      [min.y, max.y].flatMap((y) => [min.z, max.z].map((z) => new three.Vector3(x, y, z))),
    );
  });
}

/**
 * Put the camera where every corner is just inside the picture; a little room stays at the top for
 * labels and at the bottom for the legend.
 * @param {any} three @param {any} camera @param {any[]} corners @param {number} turn radians
 */
export function fitCamera(three, camera, corners, turn) {
  const target = new three.Box3().setFromPoints(corners).getCenter(new three.Vector3());
  const rise = camera.aspect < 1.2 ? RISE_UPRIGHT : RISE;
  const away = new three.Vector3(Math.sin(turn), rise, Math.cos(turn)).normalize();
  let distance = 30;
  for (let round = 0; round < 10; round += 1) {
    camera.position.copy(target).addScaledVector(away, distance);
    camera.lookAt(target);
    camera.updateProjectionMatrix();
    camera.updateMatrixWorld();
    const seen = corners.map((corner) => corner.clone().project(camera));
    const [left, right] = [Math.min(...seen.map((p) => p.x)), Math.max(...seen.map((p) => p.x))];
    const [low, high] = [Math.min(...seen.map((p) => p.y)), Math.max(...seen.map((p) => p.y))];
    const depth = target.clone().project(camera).z;
    const from = new three.Vector3(0, 0, depth).unproject(camera);
    const to = new three.Vector3((left + right) / 2, (low + high) / 2 + 0.02, depth).unproject(camera);
    target.add(to.sub(from));
    distance *= Math.max((right - left) / 1.9, (high - low) / 1.72);
  }
}

/**
 * Turn by dragging; what is returned turns by as many radians.
 * @param {HTMLElement} canvas @param {number} start @param {(turn: number) => void} turned
 */
export function letTurn(canvas, start, turned) {
  let turn = start;
  const turnTo = (/** @type {number} */ to) => turned((turn = Math.max(-WIDEST, Math.min(WIDEST, to))));
  canvas.addEventListener("pointerdown", (down) => {
    const [from, x] = [turn, down.clientX];
    const move = (/** @type {PointerEvent} */ event) => turnTo(from - (event.clientX - x) / 300);
    const end = () => removeEventListener("pointermove", move);
    addEventListener("pointermove", move);
    addEventListener("pointerup", end, { once: true });
    addEventListener("pointercancel", end, { once: true });
  });
  return (/** @type {number} */ by) => turnTo(turn + by);
}
