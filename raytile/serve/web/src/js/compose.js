// The form and the sheet: what shall be painted, where other words hold, and what it will cost.

import { ApiError, get, send, words } from "./api.js";
import { Drawing } from "./drawing.js";
import { h, icon, iconButton } from "./dom.js";
import { megapixels, plural } from "./format.js";
import { Cost } from "./cost.js";
import { Sheet } from "./sheet.js";
import { STYLES, WORDS } from "./words.js";

const SIZES = [[1024, 1024], [2048, 1024], [4096, 2048], [8192, 4096]];
const WRAPS = [["none", "None"], ["x", "Left–right"], ["y", "Top–bottom"], ["xy", "All"]];
const FEW = 8; // words that are shown at once
const FEATHER = 1 / 24; // of the region's smaller side

const dice = () => Math.floor(Math.random() * 1e6);

export class Compose {
  constructor({ painted }) {
    this.painted = painted;
    this.panel = h("div", { class: "view" });
    this.stage = h("div", { class: "view" });
    this.models = ["terra"];
    this.#form();
    this.sheet = new Sheet(this.stage);
    this.drawing = new Drawing(this.stage, this.sheet, this.#size(), {
      changed: () => this.#regionsChanged(), chosen: () => this.#listRegions(), tool: (tool) => this.#toolChanged(tool),
    });
    this.#tools();
    this.#changed();
    get("/v1/models").then((found) => this.#modelsFound(found.data.map((one) => one.id)), () => {});
  }

  #form() {
    const changed = () => this.#changed();
    this.prompt = h("textarea", { id: "prompt", rows: 3, maxLength: 10000, placeholder: "islands, warm sea, mountains", oninput: changed });
    this.style = pick("style", "Style", STYLES.map(({ id, label }) => [id, label]), "painted", changed);
    this.wordList = h("div", { class: "words", role: "group", "aria-label": "Words that the model knows" },
      WORDS.map((word, n) => h("button", { type: "button", hidden: n >= FEW, onclick: () => this.#say(word) }, word)),
      h("button", { type: "button", class: "more", onclick: (event) => this.#moreWords(event.target) }, "More words"));
    this.sizes = pick("preset", "Size", [...SIZES.map(([w, t]) => [`${w}x${t}`, sizeLabel(w, t)])], "2048x1024", () => this.#preset());
    this.width = h("input", { id: "width", type: "number", min: 1, max: 1048576, inputMode: "numeric", value: 2048, oninput: changed, "aria-label": "Width in pixels" });
    this.height = h("input", { id: "height", type: "number", min: 1, max: 1048576, inputMode: "numeric", value: 1024, oninput: changed, "aria-label": "Height in pixels" });
    this.area = h("output", { htmlFor: "width height" });
    this.wrap = pick("wrap", "Sides that meet without a seam", WRAPS, "none", changed);
    this.negative = h("textarea", { id: "negative", rows: 2, maxLength: 10000, oninput: changed });
    this.steps = h("input", { id: "steps", type: "number", min: 1, max: 500, inputMode: "numeric", placeholder: "the model's own", oninput: changed });
    this.seed = h("input", { id: "seed", type: "number", min: 0, inputMode: "numeric", value: dice(), oninput: changed });
    this.model = h("select", { id: "model", onchange: changed });
    this.modelField = field("model", "Model", this.model);
    this.modelField.hidden = true;
    this.regions = h("div", { class: "regions" });
    this.drawBox = h("button", { type: "button", onclick: (event) => this.#startBox(event) }, icon("box"), "Draw a box");
    this.drawPolygon = h("button", { type: "button", onclick: () => this.drawing.use("polygon") }, icon("polygon"), "Polygon");
    this.also = h("p", { class: "soft small", hidden: true });
    this.kept = {};
    this.masked = [];
    this.cost = new Cost("/v1/plans");
    this.problem = h("p", { class: "error", role: "alert", hidden: true });
    this.go = h("button", { type: "submit", class: "main" }, "Paint");
    this.terraOnly = [this.style.element, this.wordList];
    this.form = h("form", { class: "view", noValidate: true, onsubmit: (event) => { event.preventDefault(); this.submit(); } },
      h("div", { class: "scroll" },
        h("div", { class: "field prompt" }, h("label", { htmlFor: "prompt" }, "Prompt"), this.prompt, this.wordList),
        this.style.element,
        h("fieldset", { class: "group" }, h("legend", {}, "Size"), this.sizes.element,
          h("div", { class: "size" }, this.width, h("span", { "aria-hidden": "true" }, "×"), this.height, this.area)),
        this.wrap.element,
        h("fieldset", { class: "group" }, h("legend", {}, "Regions with words of their own"), this.regions,
          h("div", { class: "pair" }, this.drawBox, this.drawPolygon)),
        h("details", {}, h("summary", {}, "Details"),
          h("div", { class: "inside" },
            field("negative", "What to leave out", this.negative),
            h("div", { class: "pair" }, field("steps", "Steps", this.steps),
              field("seed", "Seed", h("div", { class: "row" }, h("div", { class: "grow" }, this.seed),
                iconButton("dice", "Another seed", () => { this.seed.value = dice(); this.#changed(); })))),
            this.modelField))),
      h("div", { class: "foot" }, this.also, this.cost.element, this.problem, this.go));
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.submit();
    });
    this.panel.append(this.form);
  }

  #tools() {
    const tool = (name, label) => h("button", { type: "button", "aria-pressed": "false", dataset: { tool: name }, onclick: (event) => (name === "box" ? this.#startBox(event) : this.drawing.use(name)) }, icon(name), label);
    this.toolbar = h("div", { class: "tools draw", role: "toolbar", "aria-label": "Draw regions" }, tool("box", "Box"), tool("polygon", "Polygon"));
    this.stage.append(this.toolbar);
  }

  // By mouse or finger a box is drawn; with the keyboard it is put in the middle, to be moved from there.
  #startBox(event) {
    if (event.detail > 0) return this.drawing.use("box");
    const shape = this.drawing.addBox();
    this.regions.querySelector(`[data-region="${shape.id}"] input`)?.focus();
  }

  #toolChanged(tool) {
    for (const button of this.toolbar?.querySelectorAll("[data-tool]") ?? []) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    this.#showSheet();
  }

  #size() { return { width: Math.max(1, Math.round(+this.width.value) || 1), height: Math.max(1, Math.round(+this.height.value) || 1) }; }

  #preset() {
    const [width, height] = this.sizes.value.split("x");
    Object.assign(this.width, { value: width });
    Object.assign(this.height, { value: height });
    this.#changed();
  }

  #say(word) {
    const before = this.prompt.value.trim().replace(/,$/, "");
    this.prompt.value = before ? `${before}, ${word}` : word;
    this.#changed();
  }

  #moreWords(button) {
    const hidden = [...this.wordList.querySelectorAll("[hidden]")];
    for (const word of hidden) word.hidden = false;
    button.remove();
    this.wordList.classList.add("all");
    hidden[0]?.focus();
  }

  #modelsFound(names) {
    this.models = names.length ? names : ["terra"];
    this.model.replaceChildren(...this.models.map((name) => h("option", { value: name }, name)));
    this.model.value = this.models.includes("terra") ? "terra" : this.models[0];
    this.modelField.hidden = this.models.length < 2;
    this.#changed();
  }

  get isTerra() { return (this.model.value || "terra") === "terra"; }

  #changed() {
    const { width, height } = this.#size();
    const name = `${width}x${height}`;
    this.sizes.value = SIZES.some(([w, t]) => `${w}x${t}` === name) ? name : null;
    this.area.textContent = megapixels(width, height);
    for (const part of this.terraOnly) part.hidden = !this.isTerra;
    if (this.drawing) {
      if (this.drawing.size.width !== width || this.drawing.size.height !== height) this.drawing.resize({ width, height });
      this.#showSheet();
    }
    this.#clearProblem();
    this.cost.ask(this.wish());
  }

  #showSheet() {
    const drawing = this.drawing.tool;
    const hints = {
      box: ["Drag a box", "Then say what is there."], polygon: ["Click corner after corner", "Enter, or a click on the first one, closes it."],
      none: ["Your picture appears here", "Draw on it to say where other words hold."],
    };
    const quiet = this.drawing.shapes.length > 0 && drawing === "none";
    const [one, two] = hints[drawing] ?? hints.none;
    this.sheet.show({ ...this.#size(), wrap: this.wrap.value, hint: quiet ? [] : [h("strong", {}, one), h("span", {}, two)] });
    this.drawing.draw();
  }

  #regionsChanged() {
    if (this.drawing.tool === "box" || (this.drawing.tool === "polygon" && !this.drawing.pending)) {
      const tool = this.drawing.tool;
      if (this.drawing.shapes.length !== this.known) this.drawing.use(tool);
    }
    const fresh = this.drawing.shapes.length > (this.known ?? 0);
    this.known = this.drawing.shapes.length;
    this.#listRegions();
    this.#changed();
    if (fresh && window.matchMedia("(pointer: fine)").matches) this.regions.lastElementChild?.querySelector("input").focus();
  }

  #listRegions() {
    const held = document.activeElement?.closest?.("[data-region]")?.dataset.region;
    this.regions.replaceChildren(...this.drawing.shapes.map((shape) => {
      const words = h("input", {
        type: "text", value: shape.prompt ?? "", placeholder: "What is there", maxLength: 10000, "aria-label": `Words of region ${shape.id}`,
        oninput: () => { shape.prompt = words.value; this.drawing.draw(); this.#changed(); }, onfocus: () => { if (this.drawing.chosen !== shape.id) this.drawing.choose(shape.id); },
      });
      return h("div", { class: `region ${shape.id === this.drawing.chosen ? "chosen" : ""}`, hue: this.drawing.hue(shape), dataset: { region: shape.id } },
        h("span", { class: "swatch", "aria-hidden": "true" }), words,
        iconButton("close", `Remove region ${shape.id}`, () => this.drawing.remove(shape.id), { class: "icon quiet" }));
    }));
    if (held) this.regions.querySelector(`[data-region="${held}"] input`)?.focus();
  }

  // What is sent to the service; plans and renders take the same.
  wish() {
    const { width, height } = this.#size();
    const wish = { ...this.kept, prompt: this.prompt.value.trim(), size: `${width}x${height}`, wrap: this.wrap.value, seed: Math.max(0, Math.round(+this.seed.value) || 0) };
    if (this.model.value) wish.model = this.model.value;
    const style = this.isTerra ? STYLES.find((one) => one.id === this.style.value)?.words : "";
    if (style) wish.style = style;
    if (this.negative.value.trim()) wish.negative = this.negative.value.trim();
    if (this.steps.value) wish.steps = Math.round(+this.steps.value);
    const shapes = this.drawing?.shapes ?? [];
    const regions = [...shapes.map((shape) => ({ ...region(shape), ...shape.more, prompt: (shape.prompt ?? "").trim() })), ...this.masked];
    if (regions.length) wish.regions = regions;
    return wish;
  }

  // Takes over a wish that was painted before; what the form has no field for is kept, named, and sent again.
  fill(wish) {
    const { size } = wish;
    const { plain, kept, regions } = takenOver(wish);
    const known = STYLES.find((one) => one.words === (plain.style ?? ""));
    if (!known) kept.style = plain.style;
    this.style.value = known?.id ?? "none";
    this.prompt.value = plain.prompt ?? "";
    const [width, height] = size ? size.split("x") : [wish.width, wish.height];
    Object.assign(this.width, { value: width });
    Object.assign(this.height, { value: height });
    this.wrap.value = plain.wrap ?? "none";
    this.negative.value = plain.negative ?? "";
    this.steps.value = plain.steps ?? "";
    this.seed.value = plain.seed ?? dice();
    if (plain.model && this.models.includes(plain.model)) this.model.value = plain.model;
    this.drawing.clear();
    this.drawing.size = this.#size();
    for (const { box, polygon, prompt, ...more } of regions.drawn) this.drawing.add({ kind: box ? "box" : "polygon", ...(box ? { box } : { polygon }), prompt, more });
    this.known = this.drawing.shapes.length;
    this.#keep(kept, regions.masked);
    this.#listRegions();
    this.#changed();
  }

  #keep(kept, masked) {
    Object.assign(this, { kept, masked });
    const names = [...Object.keys(kept).map((name) => name.replaceAll("_", " ")), masked.length ? plural(masked.length, "region") + " by mask" : null].filter(Boolean);
    this.also.hidden = !names.length;
    this.also.replaceChildren(`Also taken over: ${names.join(", ")}. `, h("button", { type: "button", class: "link", onclick: () => { this.#keep({}, []); this.#changed(); } }, "Leave it out"));
  }

  #clearProblem() {
    this.problem.hidden = true;
    for (const input of this.form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  }

  #fail(error) {
    this.problem.textContent = words(error);
    this.problem.hidden = false;
    const about = { prompt: this.prompt, size: this.width, width: this.width, height: this.height, steps: this.steps, seed: this.seed, negative: this.negative };
    const input = about[String(error.param ?? "").split(".")[0]];
    if (!input) return;
    input.closest("details")?.setAttribute("open", "");
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }

  async submit() {
    if (this.go.disabled) return;
    this.#clearProblem();
    if (!this.prompt.value.trim()) return this.#fail(new ApiError(422, { message: "Say what to paint, or press one of the words below the field", param: "prompt" }));
    const silent = this.drawing.shapes.find((shape) => !shape.prompt?.trim());
    if (silent) {
      this.#fail(new ApiError(422, { message: `Say what region ${silent.id} shows, or remove it` }));
      this.regions.querySelector(`[data-region="${silent.id}"] input`)?.focus();
      return;
    }
    this.go.disabled = true;
    try {
      const wish = this.wish();
      const text = JSON.stringify(wish);
      if (this.sent?.text !== text) this.sent = { text, key: Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-") };
      const made = await send("/v1/renders", wish, { extra: { "Idempotency-Key": this.sent.key } });
      this.sent = null;
      this.painted(made);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.go.disabled = false;
    }
  }

  shortcut(key) {
    if (key === "b") this.drawing.use("box");
    else if (key === "p") this.drawing.use("polygon");
    else if (key === "Enter" && this.drawing.pending) this.drawing.finish();
    else if (key === "Escape" && this.drawing.tool !== "none") this.drawing.use("none");
    else return false;
    return true;
  }

  show() { requestAnimationFrame(() => this.#showSheet()); }
}

export const region = (shape, share = FEATHER) => {
  const place = shape.box ? { box: shape.box } : { polygon: shape.polygon };
  const sides = shape.box ? shape.box.slice(2) : [0, 1].map((n) => Math.max(...shape.polygon.map((one) => one[n])) - Math.min(...shape.polygon.map((one) => one[n])));
  return { ...place, feather: Math.round(Math.min(...sides) * share) };
};

// A wish in three parts: what the form shows, what it does not, and regions (those of a mask cannot be drawn). Shapes come
// in pixels. What was repainted, and what needs a source that is not there, is part of no new picture.
export function takenOver(wish) {
  const { prompt, style, size, width, height, wrap, negative, steps, seed, model, regions = [], units, repaint, priority, metadata, cancel_on_disconnect, ...kept } = wish;
  if (!kept.source) for (const name of ["strength", "match_colour"]) delete kept[name];
  const [wide, high] = size ? size.split("x").map(Number) : [width, height];
  const [fx, fy] = units === "share" ? [wide, high] : [1, 1];
  const scaled = (shape) => {
    const made = { ...shape };
    if (shape.box) made.box = shape.box.map((value, n) => value * (n % 2 ? fy : fx));
    if (shape.polygon) made.polygon = shape.polygon.map(([x, y]) => [x * fx, y * fy]);
    if (shape.feather) made.feather = shape.feather * Math.min(fx, fy);
    return made;
  };
  const all = regions.map(scaled);
  return {
    plain: { prompt, style, wrap, negative, steps, seed, model }, kept,
    regions: { drawn: all.filter(({ mask }) => !mask), masked: all.filter(({ mask }) => mask) },
  };
}

export function field(id, label, control) { return h("div", { class: "field" }, h("label", { htmlFor: id }, label), control); }

// Radio buttons with a value.
export function pick(name, legend, choices, value, onchange) {
  const inputs = choices.map(([id]) => h("input", { type: "radio", name, value: id, checked: id === value, onchange }));
  const element = h("fieldset", { class: "group" }, h("legend", { class: name === "preset" ? "sr" : "" }, legend),
    h("div", { class: "pick" }, choices.map(([, label], n) => h("label", {}, inputs[n], label))));
  return {
    element,
    get value() { return inputs.find((input) => input.checked)?.value ?? null; },
    set value(wanted) { for (const input of inputs) input.checked = input.value === wanted; },
  };
}

const sizeLabel = (width, height) => (width === height ? `${width / 1024}K square` : `${width / 1024}K × ${height / 1024}K`);
