// @ts-check
/** Discs in the scene: solid where one was seen, outline where one is expected. */

const PIECES = { blue: "--piece-blue", red: "--piece-red", white: "--piece-white" };
const DISC = { radius: 0.36, height: 0.22 };

export class Pieces {
  /** @param {any} three @param {(name: string) => any} tint a colour of the theme @param {any} edge */
  constructor(three, tint, edge) {
    this.three = three;
    this.tint = tint;
    this.edge = edge;
    this.group = new three.Group();
  }

  clear() {
    for (const piece of [...this.group.children]) {
      this.group.remove(piece);
      piece.traverse((/** @type {any} */ node) => {
        node.geometry?.dispose();
        if (node.material !== this.edge) node.material?.dispose();
      });
    }
  }

  /** @param {any} at where it lies @param {string} show @param {string} name its colour */
  add(at, show, name) {
    if (!at || show === "empty" || show === "unknown") return;
    const { three } = this;
    const geometry = new three.CylinderGeometry(DISC.radius, DISC.radius, DISC.height, 32);
    const own = this.tint(PIECES[/** @type {keyof typeof PIECES} */ (name)] ?? "--control");
    const piece =
      show === "disc"
        ? new three.Mesh(geometry, new three.MeshLambertMaterial({ color: own }))
        : new three.Group();
    const line = show === "unsure" ? this.tint("--warn") : name === "white" ? this.tint("--ink") : own;
    const material = show === "disc" ? this.edge : new three.LineBasicMaterial({ color: line });
    piece.add(new three.LineSegments(new three.EdgesGeometry(geometry, 30), material));
    piece.position.set(at.x, at.y + DISC.height / 2, at.z);
    this.group.add(piece);
  }
}
