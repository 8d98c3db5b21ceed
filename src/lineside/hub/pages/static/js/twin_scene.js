// @ts-check
/** The factory in three dimensions: drawn when something changed, and never otherwise. */
import { colour } from "./chart.js";
import { gridPlace } from "./twin_model.js";
import { buildStation, CELL, placeStations } from "./twin_shapes.js";

/** @typedef {any} Three the vendored subset of three.js */

const PIECES = { blue: "--piece-blue", red: "--piece-red", white: "--piece-white" };
const DISC = { radius: 0.34, height: 0.2 };

export class Scene {
  /** @param {Three} three @param {HTMLElement} element @param {any} plan */
  constructor(three, element, plan) {
    this.three = three;
    this.element = element;
    this.plan = plan;
    this.renderer = new three.WebGLRenderer({ antialias: true, alpha: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio || 1, 2));
    this.canvas = this.renderer.domElement;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "The factory; the tables below say the same.");
    element.prepend(this.canvas);
    this.camera = new three.PerspectiveCamera(32, 1, 0.1, 200);
    this.turn = 0.12;
    this.pieces = new three.Group();
    /** @type {Map<string, any>} where labels stand, by `slot:A1` or `station:gripper` */
    this.anchors = new Map();
    /** @type {(() => void)[]} */
    this.afterDraw = [];
    this.asked = false;
    this.build();
    new ResizeObserver(() => this.resize()).observe(element);
    this.letTurn();
  }

  /** Floor, light and stations, in the colours of the theme. */
  build() {
    const { three } = this;
    this.scene = new three.Scene();
    const tint = (/** @type {string} */ name) => new three.Color(colour(this.element, name));
    this.tint = tint;
    this.scene.add(new three.AmbientLight(0xffffff, 1.7));
    const sun = new three.DirectionalLight(0xffffff, 1.6);
    sun.position.set(4, 9, 6);
    this.scene.add(sun, this.pieces);
    this.edge = new three.LineBasicMaterial({ color: tint("--scene-edge") });
    const floor = new three.Mesh(
      new three.BoxGeometry(12.4, 0.12, 8.6),
      new three.MeshLambertMaterial({ color: tint("--scene-floor") }),
    );
    floor.position.set(0, -0.06, 0.3);
    this.scene.add(floor);
    const rows = this.plan.slots.map((/** @type {string} */ id, /** @type {number} */ n) => gridPlace(id, n));
    const size = {
      rows: Math.max(1, ...rows.map((/** @type {any} */ at) => at.row + 1)),
      columns: Math.max(1, ...rows.map((/** @type {any} */ at) => at.column + 1)),
    };
    this.stations = new Map(placeStations(this.plan.stations).map((at) => [at.id, this.addStation(at, size)]));
    const rack = [...this.stations.values()].find((station) => station.shape === "rack");
    this.plan.slots.forEach((/** @type {string} */ id, /** @type {number} */ n) => {
      const { row, column } = rows[n];
      const x = (rack?.x ?? 0) + (column - (size.columns - 1) / 2) * CELL.width;
      const y = 0.17 + (size.rows - 1 - row) * CELL.height;
      this.anchors.set(`slot:${id}`, new three.Vector3(x, y, rack?.z ?? 0));
    });
    this.bounds = new three.Box3().setFromObject(this.scene);
  }

  /** @param {{id: string, shape: string, x: number, z: number}} at @param {any} size */
  addStation(at, size) {
    const { three } = this;
    const paint = {
      body: new three.MeshLambertMaterial({ color: this.tint?.("--scene-body") }),
      second: new three.MeshLambertMaterial({ color: this.tint?.("--scene-body-2") }),
      edge: this.edge,
    };
    const { group, part, top } = buildStation(three, at.shape, paint, size);
    group.position.set(at.x, 0, at.z);
    this.scene.add(group);
    this.anchors.set(`station:${at.id}`, new three.Vector3(at.x, top, at.z));
    return { ...at, paint, part: new three.Vector3(at.x + part[0], part[1], at.z + part[2]) };
  }

  /** @param {ReturnType<typeof import("./twin_model.js").sceneOf>} view */
  show(view) {
    this.view = view;
    for (const child of [...this.pieces.children]) this.drop(child);
    for (const { id, show, colour: name } of view.slots) {
      if (show !== "empty" && show !== "unknown") this.addPiece(this.anchors.get(`slot:${id}`), show, name);
    }
    for (const { station, show, colour: name } of view.parts) {
      this.addPiece(this.stations?.get(station)?.part, show, name);
    }
    for (const { id, active } of view.stations) {
      const paint = this.stations?.get(id)?.paint;
      paint?.body.color.copy(this.tint?.(active ? "--accent" : "--scene-body"));
    }
    this.ask();
  }

  /** @param {any} at @param {string} show @param {string} name */
  addPiece(at, show, name) {
    if (!at) return;
    const { three } = this;
    const geometry = new three.CylinderGeometry(DISC.radius, DISC.radius, DISC.height, 28);
    const tint = this.tint?.(PIECES[/** @type {keyof typeof PIECES} */ (name)] ?? "--control");
    const outline = show === "unsure" ? this.tint?.("--warn") : name === "white" ? this.tint?.("--ink") : tint;
    const piece =
      show === "disc"
        ? new three.Mesh(geometry, new three.MeshLambertMaterial({ color: tint }))
        : new three.Group();
    const lines = show === "disc" ? this.edge : new three.LineBasicMaterial({ color: outline });
    piece.add(new three.LineSegments(new three.EdgesGeometry(geometry, 30), lines));
    piece.position.set(at.x, at.y + DISC.height / 2, at.z);
    this.pieces.add(piece);
  }

  /** @param {any} piece */
  drop(piece) {
    this.pieces.remove(piece);
    piece.traverse((/** @type {any} */ node) => node.geometry?.dispose());
  }

  /** Colours of the other theme: everything is built anew. */
  repaint() {
    this.scene?.traverse((/** @type {any} */ node) => node.geometry?.dispose());
    this.pieces = new this.three.Group();
    this.build();
    if (this.view) this.show(this.view);
    this.resize();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.fit();
    this.ask();
  }

  /** As near as the whole factory allows, in the middle of the picture. */
  fit() {
    const { three, camera } = this;
    const { min, max } = this.bounds;
    const corners = [min.x, max.x].flatMap((x) =>
      [min.y, max.y].flatMap((y) => [min.z, max.z].map((z) => new three.Vector3(x, y, z))),
    );
    const target = this.bounds.getCenter(new three.Vector3());
    const away = new three.Vector3(Math.sin(this.turn), 0.62, Math.cos(this.turn)).normalize();
    let distance = 30;
    for (let round = 0; round < 8; round += 1) {
      camera.position.copy(target).addScaledVector(away, distance);
      camera.lookAt(target);
      camera.updateProjectionMatrix();
      camera.updateMatrixWorld();
      const seen = corners.map((corner) => corner.clone().project(camera));
      const [left, right] = [Math.min(...seen.map((p) => p.x)), Math.max(...seen.map((p) => p.x))];
      const [low, high] = [Math.min(...seen.map((p) => p.y)), Math.max(...seen.map((p) => p.y))];
      const middle = new three.Vector3((left + right) / 2, (low + high) / 2 + 0.03, seen[0].z);
      target.add(middle.unproject(camera).sub(new three.Vector3(0, 0, seen[0].z).unproject(camera)));
      distance *= Math.max((right - left) / 1.92, (high - low) / 1.78);
    }
  }

  letTurn() {
    this.canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ down) => {
      const [from, x] = [this.turn, down.clientX];
      const move = (/** @type {PointerEvent} */ event) => {
        this.turn = Math.max(-1.1, Math.min(1.1, from - (event.clientX - x) / 300));
        this.fit();
        this.ask();
      };
      const end = () => removeEventListener("pointermove", move);
      addEventListener("pointermove", move);
      addEventListener("pointerup", end, { once: true });
      addEventListener("pointercancel", end, { once: true });
    });
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.renderer.render(this.scene, this.camera);
      for (const follow of this.afterDraw) follow();
    });
  }

  /** Where an anchor lies in the element, in its pixels. @param {string} key */
  project(key) {
    const at = this.anchors.get(key)?.clone().project(this.camera);
    if (!at) return null;
    const { clientWidth: width, clientHeight: height } = this.element;
    return { x: ((at.x + 1) / 2) * width, y: ((1 - at.y) / 2) * height };
  }
}
