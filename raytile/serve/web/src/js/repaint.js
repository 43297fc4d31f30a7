// Painting a part of a finished picture anew: drawn on the picture, said in words.

import { ApiError, ask, send, words } from "./api.js";
import { field, region } from "./compose.js";
import { Drawing } from "./drawing.js";
import { h, icon } from "./dom.js";
import { plural } from "./format.js";

const TOOLS = [["box", "Box"], ["polygon", "Polygon"], ["brush", "Brush"]];
const SOFT = 1 / 6; // of a shape's smaller side
const FEATHER = 1 / 64; // of the picture's smaller side, around what a brush has marked

export class Repaint {
  constructor(show, { done, left }) {
    Object.assign(this, { show, done, left });
    const { width, height } = show.record;
    this.size = { width, height };
    this.drawing = new Drawing(show.stage, show.viewer, this.size, { changed: () => this.#fill(), chosen: () => this.#fill(), tool: (tool) => this.#tool(tool) });
    this.drawing.element.addEventListener("wheel", (event) => { event.preventDefault(); show.viewer.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
    this.prompt = h("textarea", { id: "repaint-prompt", rows: 3, maxLength: 10000, oninput: () => this.#clear() });
    this.strength = h("input", { id: "strength", type: "range", min: 10, max: 100, step: 5, value: 100 });
    this.width = h("input", { id: "brush-width", type: "range", min: 8, max: 160, value: 48, oninput: () => { this.drawing.brush.width = +this.width.value; this.drawing.draw(); } });
    this.brushField = field("brush-width", "Width of the brush", this.width);
    this.list = h("p", { class: "soft small", role: "status" });
    this.clearButton = h("button", { type: "button", class: "quiet", onclick: () => { this.drawing.clear(); this.#fill(); } }, "Clear");
    this.problem = h("p", { class: "error", role: "alert", hidden: true });
    this.go = h("button", { type: "submit", class: "main" }, "Repaint");
    this.tools = h("div", { class: "pair three" }, TOOLS.map(([name, label]) => h("button", { type: "button", "aria-pressed": "false", dataset: { tool: name }, onclick: (event) => this.#use(name, event) }, icon(name), label)));
    this.panel = h("form", { class: "view", noValidate: true, onsubmit: (event) => { event.preventDefault(); this.submit(); } },
      h("div", { class: "scroll" },
        h("button", { type: "button", class: "quiet back", onclick: () => this.left() }, icon("back"), "Back to the picture"),
        h("div", { class: "group" }, h("h1", {}, "Repaint a part"), h("p", { class: "soft" }, "Draw on the picture where it may change. The rest stays as it is, to the bit, but for a soft edge.")),
        h("fieldset", { class: "group" }, h("legend", {}, "Draw with"), this.tools, this.brushField, h("div", { class: "row" }, h("div", { class: "grow" }, this.list), this.clearButton)),
        h("div", { class: "field prompt" }, h("label", { htmlFor: "repaint-prompt" }, "What is there instead"), this.prompt),
        field("strength", "How much may change", this.strength)),
      h("div", { class: "foot" }, this.problem, this.go));
    this.panel.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.submit(); });
    this.prompt.value = show.settled.prompt ?? "";
    this.#fill();
  }

  begin() {
    this.drawing.use("box");
    this.tools.firstChild.focus();
  }

  #use(name, event) {
    if (event.detail === 0 && name === "box") this.drawing.addBox();
    else this.drawing.use(name);
  }

  #tool(tool) {
    for (const button of this.tools?.children ?? []) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    if (this.brushField) this.brushField.hidden = tool !== "brush";
  }

  #fill() {
    if (!this.list) return;
    this.#clear();
    const { shapes, brush } = this.drawing;
    const drawn = [shapes.length ? plural(shapes.length, "shape") : null, brush.empty ? null : "what you brushed"].filter(Boolean);
    this.list.textContent = drawn.length ? `Marked: ${drawn.join(" and ")}.` : "Nothing is marked yet.";
    this.clearButton.hidden = !drawn.length;
    this.brushField.hidden = this.drawing.tool !== "brush";
  }

  #clear() {
    this.problem.hidden = true;
    this.prompt.removeAttribute("aria-invalid");
  }

  #fail(error, input = null) {
    this.problem.textContent = words(error);
    this.problem.hidden = false;
    input?.setAttribute("aria-invalid", "true");
    input?.focus();
  }

  async submit() {
    if (this.go.disabled) return;
    if (this.drawing.empty()) return this.#fail(new ApiError(422, { message: "Mark where the picture may change: draw on it" }));
    if (!this.prompt.value.trim()) return this.#fail(new ApiError(422, { message: "Say what shall be there instead" }), this.prompt);
    this.go.disabled = true;
    try {
      const feather = Math.max(8, Math.round(Math.min(this.size.width, this.size.height) * FEATHER));
      const shapes = this.drawing.wishes().map((shape) => region(shape, SOFT));
      const mask = await this.drawing.brush.picture();
      if (mask) {
        const upload = await (await ask("/v1/uploads", { method: "POST", body: mask, type: "image/png" })).json();
        shapes.push({ mask: { upload: upload.id }, feather });
      }
      const wish = { prompt: this.prompt.value.trim(), repaint: shapes, strength: this.strength.value / 100, seed: Math.floor(Math.random() * 1e6) };
      if (this.show.settled.style) wish.style = this.show.settled.style;
      const made = await send(`${this.show.path}/repaint`, wish);
      this.done(made);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.go.disabled = false;
    }
  }

  shortcut(key) {
    if (key === "Enter" && this.drawing.pending) this.drawing.finish();
    else if (key === "b") this.drawing.use("box");
    else if (key === "p") this.drawing.use("polygon");
    else if (key === "Escape") {
      if (this.drawing.pending || this.drawing.tool !== "none") this.drawing.use(this.drawing.tool);
      else this.left();
    } else return false;
    return true;
  }

  close() {
    this.drawing.close();
    this.panel.remove();
  }
}
