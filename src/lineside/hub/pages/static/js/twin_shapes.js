// @ts-check
/**
 * The stations' silhouettes, each of a few boxes and cylinders. One unit is about 10 cm of the
 * factory. Every builder fills a group that stands on the floor at its own origin and says where a
 * part lies on it.
 */

/** @typedef {import("./twin_scene.js").Three} Three */
/** @typedef {{body: any, second: any, edge: any}} Paint */

/** @param {Three} three @param {any} group @param {Paint} paint */
function builder(three, group, paint) {
  /** @param {any} geometry @param {any} material @param {number[]} at @param {number} tilt */
  const put = (geometry, material, at, tilt = 0) => {
    const mesh = new three.Mesh(geometry, material);
    mesh.position.set(at[0], at[1], at[2]);
    mesh.rotation.z = tilt;
    mesh.add(new three.LineSegments(new three.EdgesGeometry(geometry, 30), paint.edge));
    group.add(mesh);
    return mesh;
  };
  return {
    /** Size, centre of its foot, and a tilt about the depth axis. @param {number[]} size @param {number[]} at */
    box: (size, at, { second = false, tilt = 0 } = {}) =>
      put(
        new three.BoxGeometry(size[0], size[1], size[2]),
        second ? paint.second : paint.body,
        [at[0], at[1] + size[1] / 2, at[2]],
        tilt,
      ),
    /** @param {number} radius @param {number} height @param {number[]} at */
    tube: (radius, height, at, { second = false } = {}) =>
      put(
        new three.CylinderGeometry(radius, radius, height, 24),
        second ? paint.second : paint.body,
        [at[0], at[1] + height / 2, at[2]],
      ),
  };
}

export const CELL = { width: 1.05, height: 0.92, depth: 0.95 };

/** @type {Record<string, (make: ReturnType<typeof builder>, size: {rows: number, columns: number}) => {part: number[], top: number}>} */
const SHAPES = {
  rack: (make, { rows, columns }) => {
    const [width, height] = [columns * CELL.width, rows * CELL.height];
    make.box([width + 0.5, 0.12, CELL.depth + 0.3], [0, 0, 0], { second: true });
    for (let n = 0; n <= columns; n += 1) {
      make.box([0.07, height, 0.07], [(n - columns / 2) * CELL.width, 0.12, -CELL.depth / 2]);
    }
    for (let n = 0; n < rows; n += 1) {
      make.box([width + 0.07, 0.05, CELL.depth], [0, 0.12 + n * CELL.height, 0]);
    }
    make.box([0.16, height + 0.5, 0.16], [width / 2 + 0.45, 0, 0.4], { second: true });
    make.box([0.5, 0.1, 0.3], [width / 2 + 0.25, height * 0.55, 0.4], { second: true });
    return { part: [width / 2 + 0.2, height * 0.55 + 0.1, 0.4], top: height + 0.35 };
  },
  gripper: (make) => {
    make.tube(0.62, 0.22, [0, 0, 0], { second: true });
    make.box([0.3, 2.1, 0.3], [0, 0.22, 0]);
    make.box([1.75, 0.18, 0.24], [0.55, 1.9, 0]);
    make.tube(0.07, 0.55, [1.3, 1.35, 0], { second: true });
    make.tube(0.2, 0.08, [1.3, 1.28, 0]);
    return { part: [1.3, 1.02, 0], top: 2.45 };
  },
  oven: (make) => {
    make.box([1.7, 1.2, 1.5], [-0.3, 0, -0.2]);
    make.tube(0.2, 0.9, [-0.7, 1.2, -0.4], { second: true });
    make.box([0.85, 0.45, 0.04], [-0.3, 0.3, 0.57], { second: true });
    make.box([0.9, 0.14, 0.9], [-0.3, 0.16, 1.05], { second: true });
    make.tube(0.55, 0.3, [1.25, 0, 0.5], { second: true });
    return { part: [-0.3, 0.3, 1.05], top: 2.25 };
  },
  sorter: (make) => {
    make.box([3.1, 0.35, 0.8], [0, 0, -0.35], { second: true });
    make.box([0.12, 1.05, 0.12], [-0.95, 0.35, -0.75]);
    make.box([0.12, 1.05, 0.12], [-0.95, 0.35, 0.05]);
    make.box([0.3, 0.2, 0.92], [-0.95, 1.4, -0.35]);
    for (const x of [0.1, 0.75, 1.4]) make.box([0.5, 0.12, 0.95], [x, 0.06, 0.55]);
    return { part: [-0.95, 0.35, -0.35], top: 1.85 };
  },
  output: (make) => {
    make.box([1.2, 0.3, 1.2], [0, 0, 0]);
    make.box([0.12, 0.75, 1.2], [-0.54, 0.3, 0], { second: true });
    make.box([1.1, 0.1, 0.7], [0.95, 0.12, 0], { second: true, tilt: -0.3 });
    return { part: [0.05, 0.3, 0], top: 1.3 };
  },
  input: (make) => {
    make.box([1.2, 0.3, 1.2], [0, 0, 0]);
    make.box([1.1, 0.1, 0.7], [-0.9, 0.42, 0], { second: true, tilt: -0.3 });
    make.box([0.12, 0.75, 0.12], [0.5, 0.3, 0.5], { second: true });
    make.box([0.12, 0.75, 0.12], [0.5, 0.3, -0.5], { second: true });
    return { part: [0, 0.3, 0], top: 1.3 };
  },
};

/** Where stations of each shape stand on the floor: x, z. @type {Record<string, number[]>} */
const PLACES = {
  rack: [-3.5, -1.7],
  gripper: [-0.1, 0.1],
  oven: [3.7, -1.8],
  sorter: [3.3, 2.7],
  output: [-0.2, 3],
  input: [-3.6, 2.9],
};

/**
 * Where each station stands; a second one of a shape stands beside the first.
 * @param {{id: string, shape: string}[]} stations
 */
export function placeStations(stations) {
  /** @type {Record<string, number>} */
  const used = {};
  return stations.map(({ id, shape }) => {
    const count = (used[shape] = (used[shape] ?? -1) + 1);
    const [x, z] = PLACES[shape] ?? PLACES.oven;
    return { id, shape, x: x + Math.sign(x || 1) * 4.2 * count, z };
  });
}

/**
 * @param {Three} three @param {string} shape @param {Paint} paint
 * @param {{rows: number, columns: number}} size
 */
export function buildStation(three, shape, paint, size) {
  const group = new three.Group();
  const built = (SHAPES[shape] ?? SHAPES.oven)(builder(three, group, paint), size);
  return { group, ...built };
}
