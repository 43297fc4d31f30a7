// Shapes drawn on the stage, kept in pixels of the picture: boxes and polygons, by mouse, finger, pen or keys.

import { h, s } from "./dom.js";
import { Brush } from "./brush.js";

export const HUES = ["#ff7a45", "#2fb5c7", "#c45ee8", "#8fbf2f", "#f2b01e", "#5a8cff", "#ef5c8f", "#37c08a"];
const SMALLEST = 8; // pixels of the stage: less is a slip of the hand

export class Drawing {
  // `place` is the sheet or the viewer: {toStage, toPicture, onMove, width, height}. `told`: {changed(), chosen(), tool()}
  constructor(room, place, size, told = {}) {
    Object.assign(this, { place, size, told });
    this.shapes = []; // {id, kind: "box", box: [x, y, w, h]} or {id, kind: "polygon", polygon: [[x, y], ...]}
    this.tool = "none";
    this.chosen = null;
    this.pending = null;
    this.count = 0;
    this.brush = new Brush(this);
    this.svg = s("svg", { "aria-label": "Drawn shapes" });
    this.element = h("div", { class: "drawing passive" }, this.brush.canvas, this.svg);
    room.append(this.element);
    const on = (name, call) => this.element.addEventListener(name, call);
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", () => { this.drag = null; });
    on("dblclick", () => this.tool === "polygon" && this.finish());
    on("keydown", (event) => this.#key(event));
    on("pointerleave", () => this.brush.hover(null));
    this.stop = place.onMove(() => this.draw());
    this.draw();
  }

  use(tool) {
    this.pending = null;
    this.tool = this.tool === tool ? "none" : tool;
    this.element.className = `drawing tool-${this.tool} ${this.tool === "none" ? "passive" : ""}`;
    this.told.tool?.(this.tool);
    this.draw();
  }

  hue(shape) { return HUES[(shape.id - 1) % HUES.length]; }

  add(shape) {
    this.count += 1;
    const made = { ...shape, id: this.count };
    this.shapes.push(made);
    this.choose(made.id);
    this.told.changed?.(made);
    return made;
  }

  // A box in the middle, for those who draw with keys.
  addBox() {
    const { width, height } = this.size;
    return this.add({ kind: "box", box: [width * 0.3, height * 0.3, width * 0.4, height * 0.4].map(Math.round) });
  }

  remove(id) {
    this.shapes = this.shapes.filter((shape) => shape.id !== id);
    if (this.chosen === id) this.chosen = null;
    this.told.changed?.(null);
    this.draw();
  }

  choose(id) {
    this.chosen = id;
    this.told.chosen?.(id);
    this.draw();
  }

  // The picture has another size now: shapes keep their place in it.
  resize(size) {
    const [fx, fy] = [size.width / this.size.width, size.height / this.size.height];
    for (const shape of this.shapes) {
      if (shape.box) shape.box = shape.box.map((value, n) => Math.round(value * (n % 2 ? fy : fx)));
      else shape.polygon = shape.polygon.map(([x, y]) => [Math.round(x * fx), Math.round(y * fy)]);
    }
    this.size = size;
    this.draw();
  }

  finish() {
    const corners = this.pending ?? [];
    this.pending = null;
    const kept = corners.filter(([x, y], n) => n === 0 || Math.hypot(x - corners[n - 1][0], y - corners[n - 1][1]) > 1);
    if (kept.length >= 3) this.add({ kind: "polygon", polygon: kept });
    this.draw();
  }

  #at(event) {
    const frame = this.element.getBoundingClientRect();
    const stage = [event.clientX - frame.left, event.clientY - frame.top];
    const [x, y] = this.place.toPicture(...stage);
    const inside = [Math.min(Math.max(x, 0), this.size.width), Math.min(Math.max(y, 0), this.size.height)].map(Math.round);
    return { stage, inside };
  }

  #down(event) {
    if (event.button > 0) return;
    const at = this.#at(event);
    const { shape: id, corner } = event.target.dataset ?? {};
    const shape = this.shapes.find((one) => one.id === Number(id));
    this.element.setPointerCapture(event.pointerId);
    if (shape && this.tool !== "brush" && !this.pending) {
      this.choose(shape.id);
      this.drag = { shape, corner: corner === undefined ? null : Number(corner), from: at.inside, was: structuredClone(shape) };
    } else if (this.tool === "box") this.drag = { from: at.inside, stage: at.stage, fresh: true };
    else if (this.tool === "brush") { this.drag = { brush: true }; this.brush.begin(at.inside); }
    else if (this.tool === "polygon") this.#corner(at);
  }

  #corner({ stage, inside }) {
    this.pending ??= [];
    const [first] = this.pending;
    if (first && this.pending.length >= 3) {
      const [x, y] = this.place.toStage(...first);
      if (Math.hypot(x - stage[0], y - stage[1]) < 14) return this.finish();
    }
    this.pending.push(inside);
    this.draw();
  }

  #move(event) {
    const at = this.#at(event);
    this.cursor = at.inside;
    if (this.tool === "brush") this.brush.hover(at.inside);
    if (this.pending) this.draw();
    if (!this.drag) return;
    if (this.drag.brush) this.brush.go(at.inside);
    else if (this.drag.fresh) { this.drag.box = boxOf(this.drag.from, at.inside); this.draw(); }
    else { this.#pull(at.inside); this.draw(); }
  }

  #up() {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.brush) { this.brush.end(); this.told.changed?.(null); }
    else if (drag.fresh) {
      const [x, y] = this.place.toStage(drag.box?.[0] ?? 0, drag.box?.[1] ?? 0);
      const [x2, y2] = drag.box ? this.place.toStage(drag.box[0] + drag.box[2], drag.box[1] + drag.box[3]) : [x, y];
      if (x2 - x >= SMALLEST && y2 - y >= SMALLEST) this.add({ kind: "box", box: drag.box });
      this.draw();
    } else this.told.changed?.(drag.shape);
  }

  #pull(to) {
    const { shape, corner, from, was } = this.drag;
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    if (corner === null) moveShape(shape, was, dx, dy, this.size);
    else if (shape.polygon) shape.polygon = was.polygon.map((one, n) => (n === corner ? to : one));
    else {
      const [x, y, w, t] = was.box;
      const opposite = [corner % 2 ? x : x + w, corner > 1 ? y : y + t];
      shape.box = boxOf(opposite, to);
    }
  }

  #key(event) {
    const shape = this.shapes.find((one) => one.id === Number(event.target.dataset?.shape));
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!shape) return;
    if (by) {
      const far = Math.max(1, Math.round(this.size.width / 100));
      const was = structuredClone(shape);
      if (event.shiftKey && shape.box) shape.box = [was.box[0], was.box[1], Math.max(far, was.box[2] + by[0] * far), Math.max(far, was.box[3] + by[1] * far)];
      else moveShape(shape, was, by[0] * far, by[1] * far, this.size);
      this.told.changed?.(shape);
    } else if (event.key === "Delete" || event.key === "Backspace") this.remove(shape.id);
    else if (event.key === "Enter" || event.key === " ") this.choose(shape.id);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
    this.svg.querySelector(`[data-shape="${shape.id}"].shape`)?.focus();
  }

  draw() {
    if (!Number.isFinite(this.place.toStage(0, 0)[0])) return; // not on the page yet
    const stage = (points) => points.map(([x, y]) => this.place.toStage(x, y));
    const path = (points, closed = true) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}${closed ? "Z" : ""}`;
    const focused = document.activeElement?.dataset?.shape;
    const parts = [];
    for (const shape of this.shapes) {
      const hue = `--hue:${this.hue(shape)}`;
      const corners = cornersOf(shape);
      const points = stage(corners);
      const chosen = shape.id === this.chosen;
      const line = path(shape.kind === "box" ? [points[0], points[1], points[3], points[2]] : points);
      const [lx, ly] = points.reduce((best, one) => (one[0] + one[1] < best[0] + best[1] ? one : best));
      parts.push(paint(s("path", { class: "shape under", d: line }), hue));
      parts.push(paint(s("path", {
        class: `shape ${chosen ? "chosen" : ""}`, d: line, "data-shape": shape.id, tabindex: 0, role: "button",
        "aria-label": `${shape.kind === "box" ? "Box" : "Polygon"} ${shape.id}${shape.prompt ? `: ${shape.prompt}` : ""}. Arrow keys move it${shape.box ? ", with shift they change its size" : ""}; delete removes it`,
      }), hue));
      parts.push(paint(s("circle", { class: "disc", cx: lx + 17, cy: ly + 17, r: 10 }), hue));
      parts.push(s("text", { class: "tag", x: lx + 17, y: ly + 21 }, String(this.shapes.indexOf(shape) + 1)));
      const wide = Math.max(...points.map(([x]) => x)) - lx - 44;
      if (shape.prompt && shape.box && wide > 40) parts.push(s("text", { class: "said", x: lx + 34, y: ly + 21 }, short(shape.prompt, wide)));
      if (chosen && this.tool !== "brush") points.forEach(([x, y], n) => {
        parts.push(s("circle", { class: "grip", cx: x, cy: y, r: 22, "data-shape": shape.id, "data-corner": n }));
        parts.push(paint(s("circle", { class: "handle", cx: x, cy: y, r: 6, "data-shape": shape.id, "data-corner": n }), hue));
      });
    }
    if (this.drag?.box) {
      const [x, y, w, t] = this.drag.box;
      parts.push(paint(s("path", { class: "shape chosen", d: path(stage([[x, y], [x + w, y], [x + w, y + t], [x, y + t]])) }), `--hue:${HUES[this.count % HUES.length]}`));
    }
    if (this.pending) {
      const points = stage([...this.pending, ...(this.cursor ? [this.cursor] : [])]);
      const hue = `--hue:${HUES[this.count % HUES.length]}`;
      parts.push(paint(s("path", { class: "shape chosen", d: path(points, false) }), hue));
      points.slice(0, this.pending.length).forEach(([x, y], n) => parts.push(paint(s("circle", { class: "handle", cx: x, cy: y, r: n ? 4 : 7 }), hue)));
    }
    parts.push(...this.brush.ring());
    this.svg.replaceChildren(...parts);
    this.brush.draw();
    if (focused) this.svg.querySelector(`.shape[data-shape="${focused}"]`)?.focus();
  }

  // What the service takes.
  wishes() { return this.shapes.map((shape) => (shape.box ? { box: shape.box } : { polygon: shape.polygon })); }
  empty() { return this.shapes.length === 0 && this.brush.empty; }
  clear() { this.shapes = []; this.brush.clear(); this.chosen = null; this.draw(); }
  close() { this.stop(); this.element.remove(); }
}

const paint = (element, style) => {
  element.style.setProperty(...style.split(":"));
  return element;
};

// Words cut to about so many pixels.
const short = (words, wide) => (words.length * 6.6 <= wide ? words : `${words.slice(0, Math.max(1, Math.floor(wide / 6.6) - 1)).trimEnd()}…`);

const boxOf = ([x1, y1], [x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(1, Math.abs(x2 - x1)), Math.max(1, Math.abs(y2 - y1))];

function cornersOf(shape) {
  if (shape.polygon) return shape.polygon;
  const [x, y, w, t] = shape.box;
  return [[x, y], [x + w, y], [x, y + t], [x + w, y + t]];
}

function moveShape(shape, was, dx, dy, size) {
  const corners = cornersOf(was);
  const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y);
  const mx = Math.min(Math.max(dx, -Math.min(...xs)), size.width - Math.max(...xs));
  const my = Math.min(Math.max(dy, -Math.min(...ys)), size.height - Math.max(...ys));
  if (shape.box) shape.box = [was.box[0] + mx, was.box[1] + my, was.box[2], was.box[3]];
  else shape.polygon = was.polygon.map(([x, y]) => [x + mx, y + my]);
}
