// @ts-check
/** The factory in three dimensions: drawn when something changed, and never otherwise. */
import { colour } from "./dom.js";
import { gridPlace } from "./twin_model.js";
import { Pieces } from "./twin_pieces.js";
import { buildStation, CELL, placeStations } from "./twin_shapes.js";
import { cornersOf, fitCamera, letTurn } from "./twin_view.js";

/** @typedef {any} Three the vendored subset of three.js */

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
    this.canvas.setAttribute("aria-label", "The factory; the tables below show the same.");
    element.prepend(this.canvas);
    this.camera = new three.PerspectiveCamera(32, 1, 0.1, 200);
    this.turn = 0.12;
    /** @type {Map<string, any>} where labels stand, by `slot:A1` or `station:gripper` */
    this.anchors = new Map();
    /** @type {(() => void)[]} */
    this.afterDraw = [];
    this.asked = false;
    this.build();
    new ResizeObserver(() => this.resize()).observe(element);
    this.turnBy = letTurn(this.canvas, this.turn, (turn) => {
      this.turn = turn;
      this.fit();
    });
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
    this.edge = new three.LineBasicMaterial({ color: tint("--scene-edge") });
    this.pieces = new Pieces(three, tint, this.edge);
    this.scene.add(sun, this.pieces.group);
    const floor = new three.Mesh(
      new three.BoxGeometry(12.4, 0.12, 8.6),
      new three.MeshLambertMaterial({ color: tint("--scene-floor") }),
    );
    floor.position.set(0, -0.06, 0.3);
    this.scene.add(floor);
    floor.add(new three.LineSegments(new three.EdgesGeometry(floor.geometry), this.edge));
    /** @type {any[]} what the picture must hold */
    this.solid = [floor];
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
    this.corners = cornersOf(three, this.solid);
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
    this.solid?.push(group);
    this.anchors.set(`station:${at.id}`, new three.Vector3(at.x, top, at.z));
    return { ...at, paint, part: new three.Vector3(at.x + part[0], part[1], at.z + part[2]) };
  }

  /** @param {{slots: any[], stations: any[], parts: any[]}} view */
  show(view) {
    this.view = view;
    this.pieces?.clear();
    for (const { id, show, colour: name } of view.slots) {
      this.pieces?.add(this.anchors.get(`slot:${id}`), show, name);
    }
    for (const { station, show, colour: name } of view.parts) {
      this.pieces?.add(this.stations?.get(station)?.part, show, name);
    }
    for (const { id, active } of view.stations) {
      const paint = this.stations?.get(id)?.paint;
      paint?.body.color.copy(this.tint?.(active ? "--accent" : "--scene-body"));
    }
    this.ask();
  }

  /** Colours of the other theme: everything is built anew. */
  repaint() {
    this.scene?.traverse((/** @type {any} */ node) => node.geometry?.dispose());
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
  }

  fit() {
    fitCamera(this.three, this.camera, this.corners ?? [], this.turn);
    this.ask();
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
