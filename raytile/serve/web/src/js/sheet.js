// The empty sheet that a picture will be painted on: its shape, its measures, and which sides will meet.

import { h, s } from "./dom.js";
import { size as sizeWords } from "./format.js";

const BORDER = 8; // pixels of the stage

export class Sheet {
  constructor(room) {
    this.svg = s("svg", { "aria-hidden": "true" });
    this.hint = h("div", { class: "hint" });
    this.element = h("div", { class: "sheet" }, this.svg, this.hint);
    this.listeners = new Set();
    this.width = 2048;
    this.height = 1024;
    this.wrap = "none";
    this.watch = new ResizeObserver(() => this.#draw());
    room.append(this.element);
    this.watch.observe(this.element);
  }

  show({ width, height, wrap, hint }) {
    Object.assign(this, { width, height, wrap });
    this.hint.replaceChildren(...hint);
    this.#draw();
  }

  toStage(x, y) { return [this.left + x * this.one, this.top + y * this.one]; }
  toPicture(x, y) { return [(x - this.left) / this.one, (y - this.top) / this.one]; }
  onMove(call) { this.listeners.add(call); return () => this.listeners.delete(call); }

  #draw() {
    const { clientWidth: wide, clientHeight: high } = this.element;
    if (!wide || !high) return;
    const [side, above, below] = wide < 600 ? [34, 104, 28] : [72, 108, 64]; // above: the tools, and the size in words
    this.one = Math.max(1e-6, Math.min((wide - 2 * side) / this.width, (high - above - below) / this.height));
    const [w, t] = [this.width * this.one, this.height * this.one];
    this.left = Math.round((wide - w) / 2);
    this.top = Math.round(Math.max(above, (high - t) / 2));
    const { left, top } = this;
    const parts = [
      s("rect", { class: "neat", x: left - BORDER + 0.5, y: top - BORDER + 0.5, width: w + 2 * BORDER - 1, height: t + 2 * BORDER - 1 }),
      s("rect", { class: "paper", x: left, y: top, width: w, height: t }),
      s("rect", { class: "neat", x: left - 0.5, y: top - 0.5, width: w + 1, height: t + 1 }),
      ...this.#zebra(w, true), ...this.#zebra(t, false),
      s("text", { x: left + w / 2, y: top - BORDER - 10, "text-anchor": "middle" }, sizeWords(this.width, this.height)),
    ];
    if (this.wrap.includes("x")) parts.push(...[left - BORDER / 2, left + w + BORDER / 2].map((x) => s("line", { class: "meet", x1: x, x2: x, y1: top, y2: top + t })));
    if (this.wrap.includes("y")) parts.push(...[top - BORDER / 2, top + t + BORDER / 2].map((y) => s("line", { class: "meet", x1: left, x2: left + w, y1: y, y2: y })));
    this.svg.replaceChildren(...parts);
    Object.assign(this.hint.style, { left: `${left}px`, top: `${top}px`, width: `${w}px`, height: `${t}px` });
    for (const call of this.listeners) call();
  }

  // The border of a map: light and dark by turns, a field for each so many pixels.
  #zebra(length, across) {
    const meets = this.wrap.includes(across ? "y" : "x");
    if (meets) return [];
    const field = 2 ** Math.round(Math.log2(Math.max(8, 56 / this.one))) * this.one;
    const found = [];
    for (let at = 0; at < length; at += 2 * field) {
      const long = Math.min(field, length - at);
      for (const far of [false, true]) {
        found.push(across
          ? s("rect", { class: "zebra", x: this.left + at, y: far ? this.top + this.height * this.one + 2 : this.top - BORDER + 2, width: long, height: BORDER - 4 })
          : s("rect", { class: "zebra", y: this.top + at, x: far ? this.left + this.width * this.one + 2 : this.left - BORDER + 2, height: long, width: BORDER - 4 }));
      }
    }
    return found;
  }

  close() {
    this.watch.disconnect();
    this.element.remove();
  }
}
