// @ts-check
/** Drawing with the pointer. */
import { handleAt, reshaped } from "./label_handles.js";
import { boxBetween, inside, markOf, shapeAt, shifted, withMark } from "./label_model.js";
import { follow } from "./regions_buttons.js";

/** @typedef {import("./label_work.js").Work} Work */

const NEAR_PX = 10;

export class Tools {
  /** @param {Work} work @param {HTMLCanvasElement} canvas @param {(text: string) => void} say */
  constructor(work, canvas, say) {
    this.work = work;
    this.canvas = canvas;
    this.say = say;
    this.held = false;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", () => this.close());
  }

  get near() {
    return NEAR_PX / this.work.view.place().scale;
  }

  /** Follow the pointer; the picture stays until it is lifted. @param {(event: PointerEvent) => void} move @param {() => void} end */
  hold(move, end) {
    this.held = true;
    follow(move, () => {
      this.held = false;
      end();
    });
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    event.preventDefault();
    this.work.view.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, this.work.view.at(event));
    this.work.draw();
  }

  /** @param {PointerEvent} event */
  press(event) {
    this.canvas.focus();
    event.preventDefault();
    if (this.work.opening) return;
    this.work.cursor = null;
    const at = this.work.view.at(event);
    if (event.button === 1 || this.work.tool === "select" || !this.work.may) return this.grasp(event, at);
    const point = inside(at, this.work.size);
    if (this.work.tool === "box") this.dragBox(point);
    else if (this.work.tool === "point") this.add([...point, ...point]);
    else if (this.work.tool === "polygon") this.corner(point);
    else this.paint(at);
  }

  /** Select a shape and drag it, or a corner of the selected one; beside every shape the picture is dragged. @param {PointerEvent} event @param {number[]} at */
  grasp(event, at) {
    const { work } = this;
    const [from, start] = [[event.clientX, event.clientY], work.now];
    const handle = handleAt(start, work.selected, at, this.near);
    const shape = event.button === 1 ? null : handle < 0 ? shapeAt(start, at, this.near) : work.selected;
    if (event.button !== 1) work.select(shape);
    let last = from;
    let moves = false;
    this.hold((moved) => {
      if (shape && work.may) {
        const now = work.view.at(moved);
        const by = [now[0] - at[0], now[1] - at[1]];
        const next = handle < 0 ? shifted(start, shape, by, work.size) : reshaped(start, shape, handle, by, work.size);
        if (!moves) work.history.set(next);
        else work.history.now = next;
        moves = true;
      } else work.view.panBy(moved.clientX - last[0], moved.clientY - last[1]);
      last = [moved.clientX, moved.clientY];
      work.draw();
    }, () => moves && work.after(true)); // prettier-ignore
  }

  /** @param {number[]} from */
  dragBox(from) {
    const { work } = this;
    let to = from;
    this.hold((event) => {
      to = inside(work.view.at(event), work.size);
      [work.drawn, work.closed] = [[from, [to[0], from[1]], to, [from[0], to[1]]], true];
      work.draw();
    }, () => {
      work.drop();
      const drawn = Math.abs(to[0] - from[0]) > 3 && Math.abs(to[1] - from[1]) > 3;
      if (drawn) this.add(boxBetween(from, to, work.size));
    }); // prettier-ignore
  }

  /** @param {number[]} box */
  add(box) {
    const { work } = this;
    if (!work.label) return this.say("Choose or add a label first.");
    const next = withMark(work.now, markOf(work.label, box));
    work.selected = { kind: "mark", n: (next.marked ?? []).length - 1 };
    work.change(next);
    this.say(`${work.label} added.`);
  }

  /** @param {number[]} point */
  corner(point) {
    const { work } = this;
    const [first] = work.drawn;
    if (work.drawn.length > 2 && Math.hypot(point[0] - first[0], point[1] - first[1]) < this.near) return this.close();
    work.drawn = [...work.drawn, point];
    work.draw();
  }

  /** The polygon that is half drawn becomes part of the mask. */
  close() {
    const { work } = this;
    const corners = work.drawn.filter(([x, y], n, all) => !n || x !== all[n - 1][0] || y !== all[n - 1][1]);
    if (!work.may || work.tool !== "polygon" || corners.length < 3) return;
    work.drop();
    work.selected = { kind: "polygon", n: work.now.polygons.length };
    work.change({ ...work.now, polygons: [...work.now.polygons, corners] });
    this.say("Polygon added.");
  }

  /** @param {number[]} at */
  paint(at) {
    const { work } = this;
    const value = work.tool === "brush" ? 1 : 0;
    if (!value) work.burn();
    let last = at;
    const step = (/** @type {number[]} */ to) => {
      work.mask?.stroke(last, to, work.radius, value);
      last = to;
      work.draw();
    };
    step(at);
    this.hold((event) => step(work.view.at(event)), () => work.keepMask()); // prettier-ignore
  }
}
