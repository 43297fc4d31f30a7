// A mask painted by hand: white where the picture may change. Kept smaller than the picture, scaled by the service.

import { h, s } from "./dom.js";

const LARGEST = 2048; // pixels of the mask's longer side
const TINT = "#ff7a45";

export class Brush {
  constructor(drawing) {
    this.drawing = drawing;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.width = 48; // pixels of the stage
    this.empty = true;
    this.mask = null;
  }

  // Made when first needed: the mask, and pixels of the mask per pixel of the picture.
  #ready() {
    if (this.mask) return this.mask.getContext("2d");
    const { width, height } = this.drawing.size;
    this.share = Math.min(1, LARGEST / Math.max(width, height));
    this.mask = h("canvas", { width: Math.max(1, Math.round(width * this.share)), height: Math.max(1, Math.round(height * this.share)) });
    return this.mask.getContext("2d");
  }

  // Pixels of the picture that the brush is wide, as large as it looks now.
  #across() {
    const [x0] = this.drawing.place.toPicture(0, 0);
    const [x1] = this.drawing.place.toPicture(this.width, 0);
    return x1 - x0;
  }

  begin(at) { this.last = at; this.go(at); }

  go(at) {
    const pen = this.#ready();
    pen.strokeStyle = TINT;
    pen.lineWidth = this.#across() * this.share;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(this.last[0] * this.share, this.last[1] * this.share);
    pen.lineTo(at[0] * this.share + 0.01, at[1] * this.share);
    pen.stroke();
    this.last = at;
    this.empty = false;
    this.drawing.draw();
  }

  end() { this.last = null; }
  hover(at) { this.at = at; this.drawing.draw(); }

  ring() {
    if (this.drawing.tool !== "brush" || !this.at) return [];
    const [x, y] = this.drawing.place.toStage(...this.at);
    return [s("circle", { class: "ring", cx: x, cy: y, r: this.width / 2 })];
  }

  draw() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    if (!wide) return;
    if (this.canvas.width !== wide || this.canvas.height !== high) Object.assign(this.canvas, { width: wide, height: high });
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, wide, high);
    if (this.empty) return;
    const { place, size } = this.drawing;
    const [x, y] = place.toStage(0, 0);
    const [x2, y2] = place.toStage(size.width, size.height);
    pen.globalAlpha = 0.5;
    pen.drawImage(this.mask, x, y, x2 - x, y2 - y);
  }

  clear() {
    this.mask = null;
    this.empty = true;
  }

  // A PNG, white on black; null if nothing was painted.
  async picture() {
    if (this.empty) return null;
    const plain = h("canvas", { width: this.mask.width, height: this.mask.height });
    const pen = plain.getContext("2d");
    pen.drawImage(this.mask, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, plain.width, plain.height);
    pen.globalCompositeOperation = "destination-over";
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, plain.width, plain.height);
    return new Promise((done) => plain.toBlob(done, "image/png"));
  }
}
