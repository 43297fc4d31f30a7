// One render: its picture on the stage, what is known of it and what can be done with it in the panel.

import { ask, get, hasKey, remove, send, words } from "./api.js";
import { askSize, confirm } from "./dialogs.js";
import { h, icon, note } from "./dom.js";
import { STATES, ago, bytes, duration, size } from "./format.js";
import { ended, next, start } from "./live.js";
import { Progress } from "./progress.js";
import { Repaint } from "./repaint.js";
import { follow } from "./sse.js";
import { Tools, sidesOf } from "./tools.js";
import { Viewer } from "./viewer.js";

const FORMATS = ["png", "jpeg", "webp", "tiff"];
const PACE = 700; // milliseconds between two looks at a picture that changes
const KINDS = { render: "", repaint: "Repainted", upscale: "Painted larger" };

export class Show {
  // `go(hash)` leaves; `again(wish)` opens the form with these settings; `moved(at)` tells where the viewer looks.
  constructor(id, at, told) {
    Object.assign(this, { id, at, told, path: `/v1/renders/${id}` });
    this.stop = new AbortController();
    this.panel = h("div", { class: "view" });
    this.stage = h("div", { class: "view" });
    this.waiting = h("div", { class: "waiting" });
    this.stage.append(this.waiting);
    this.live = start();
  }

  async open() {
    try {
      this.record = await get(this.path, { signal: this.stop.signal });
    } catch (error) {
      if (!this.stop.signal.aborted) this.#lost(error);
      return;
    }
    this.settled = await this.#settled();
    if (this.stop.signal.aborted) return;
    this.live = start(this.record);
    this.progress = new Progress();
    this.#panel();
    this.#fill();
    if (this.record.state !== "queued") this.#view();
    if (!ended(this.record.state)) this.#follow();
  }

  // The wish in full: a repainted or larger picture says only what is new, the rest is that of the one before.
  async #settled() {
    let { request, parent } = this.record;
    for (let n = 0; parent && n < 16; n += 1) {
      const before = await get(`/v1/renders/${parent}`, { signal: this.stop.signal }).catch(() => null);
      if (!before) break;
      if (n === 0) this.hasParent = true;
      request = { ...before.request, ...request };
      parent = before.parent;
    }
    const { width, height, seed } = this.record;
    return { ...request, size: `${width}x${height}`, seed };
  }

  #lost(error) {
    const text = error.status === 404 ? "There is no such render here, or it belongs to another key." : words(error);
    this.panel.replaceChildren(h("div", { class: "scroll" }, back(), h("h1", {}, error.status === 404 ? "Not found" : "It cannot be shown"), h("p", { class: "soft" }, text)));
    this.waiting.replaceChildren();
  }

  #panel() {
    this.title = h("h1", {}, this.settled.prompt || "Without words");
    this.state = h("span", { class: "state", role: "status" });
    this.problem = h("p", { class: "error", role: "alert", hidden: true });
    this.facts = h("dl", { class: "facts" });
    this.format = h("select", { "aria-label": "Format" }, FORMATS.map((name) => h("option", { value: name }, name.toUpperCase())));
    this.download = h("button", { type: "button", onclick: () => this.#download() }, icon("down"), "Download");
    const action = (name, label, run) => h("button", { type: "button", onclick: run }, icon(name), label);
    this.repaintButton = action("brush", "Repaint a part", () => this.repaint());
    this.largerButton = action("larger", "Paint it larger", () => this.larger());
    this.againButton = action("again", "Use these settings", () => this.told.again(this.settled));
    this.endButton = h("button", { type: "button", class: "quiet bad", onclick: () => this.#end() });
    this.downloadRow = h("div", { class: "join wide" }, this.download, this.format);
    this.detail = h("div", { class: "scroll" }, back(),
      h("div", { class: "group" }, this.state, this.title), this.problem, this.progress.element,
      h("div", { class: "actions" }, this.downloadRow, this.repaintButton, this.largerButton, this.againButton, this.endButton),
      h("hr", { class: "rule" }), this.facts);
    this.panel.replaceChildren(this.detail);
  }

  #fill() {
    const { record, live } = this;
    const state = live.state;
    const done = state === "finished";
    this.state.dataset.state = state;
    this.state.textContent = [KINDS[record.kind], STATES[state]].filter(Boolean).join(" · ");
    this.progress.element.hidden = ended(state);
    this.progress.show(live);
    for (const element of [this.downloadRow, this.repaintButton, this.largerButton]) element.hidden = !done;
    this.endButton.textContent = ended(state) ? "Delete" : "Cancel";
    this.endButton.className = ended(state) ? "quiet bad" : "bad";
    const error = live.error ?? record.error;
    this.problem.hidden = !error;
    this.problem.textContent = error ? `${error}` : "";
    const request = this.settled;
    const wrap = { x: "Left and right", y: "Top and bottom", xy: "All" }[request.wrap];
    const facts = [
      ["Size", size(record.width, record.height)], ["Style", request.style], ["Seed", record.seed], ["Steps", record.steps], ["Sides that meet", wrap],
      ["Regions", request.regions?.length || null], ["Left out", request.negative], ["Model", record.model],
      ["Evaluations", record.evaluations && record.evaluations.toLocaleString("en")], ["Begun", ago(record.created)],
      ["Took", record.started && record.ended ? duration(record.ended - record.started) : null],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    this.facts.replaceChildren(...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
    if (this.hasParent) this.facts.append(h("dt", {}, "Made from"), h("dd", {}, h("a", { class: "link", href: `#/renders/${record.parent}` }, "this picture")));
    if (state === "queued") this.waiting.replaceChildren(h("strong", {}, "Waiting"), h("span", {}, "The picture appears here with the first step."));
    else if (state === "cancelled" && !this.viewer) this.waiting.replaceChildren(h("span", {}, "Cancelled before anything was painted."));
    this.told.titled(this.settled.prompt, state);
  }

  #view() {
    if (this.viewer) return;
    this.viewer = new Viewer(this.stage, {
      moved: (at) => this.told.moved(at),
      tileFailed: () => this.#tileFailed(),
      ready: () => { this.waiting.replaceChildren(); this.stage.dataset.ready = "true"; },
      refreshed: (version) => { this.stage.dataset.version = version; },
    });
    this.tools = new Tools(this.stage, this.viewer, sidesOf(this.settled));
    this.viewer.open(`${this.path}.dzi`, { at: this.at }).catch((error) => this.waiting.replaceChildren(h("span", { class: "error" }, words(error))));
  }

  #tileFailed() {
    if (this.warned) return;
    this.warned = true;
    note("Part of the picture could not be fetched.", { bad: true, action: { label: "Try again", run: () => { this.warned = false; this.viewer?.refresh(); } } });
  }

  #follow() {
    const redraw = setInterval(() => this.progress.show(this.live), 1000);
    this.stop.signal.addEventListener("abort", () => clearInterval(redraw));
    follow(`${this.path}/events`, {
      signal: this.stop.signal,
      isLast: ({ event }) => ended(event),
      trouble: (error) => {
        if (error && !this.troubled) this.troubled = note("The line to the service is cut; trying again.", { bad: true });
        else if (!error) { this.troubled?.(); this.troubled = null; }
      },
      tell: (told) => this.#told(told),
    }).then(() => { if (!ended(this.live.state) && !this.stop.signal.aborted) this.#finished(); }).catch((error) => note(words(error), { bad: true })).finally(() => clearInterval(redraw));
  }

  #told({ event, data }) {
    const { at, ...inner } = data;
    this.live = next(this.live, { event, at, data: inner });
    if (this.live.state !== "queued") this.#view();
    if (event === "preview" || (event === "tile" && this.#inSight(inner.tiles))) this.#look();
    if (ended(event)) this.#finished();
    this.#fill();
  }

  #inSight(tiles) {
    const { tile, columns } = this.record;
    return !tile || !columns || tiles.some((n) => this.viewer?.sees([(n % columns) * tile, Math.floor(n / columns) * tile, tile, tile]));
  }

  // The picture has changed: look at it anew, not too often.
  #look() {
    if (this.looking) return;
    this.looking = setTimeout(() => { this.looking = null; this.viewer?.refresh(); }, PACE);
  }

  async #finished() {
    clearTimeout(this.looking);
    try {
      this.record = await get(this.path, { signal: this.stop.signal });
      this.live = { ...this.live, state: this.record.state };
    } catch { /* what the event said stands */ }
    this.#fill();
    this.viewer?.refresh();
  }

  async #end() {
    const over = ended(this.live.state);
    if (over && !(await confirm("Delete this render?", "The picture and its files go for good.", "Delete"))) return;
    this.endButton.disabled = true;
    try {
      await remove(this.path);
      if (over) this.told.go("#/renders");
    } catch (error) {
      note(words(error), { bad: true });
    } finally {
      this.endButton.disabled = false;
    }
  }

  async #download() {
    const format = this.format.value;
    const name = `${slug(this.settled.prompt)}-${this.id.slice(-6)}.${format === "jpeg" ? "jpg" : format}`;
    const url = `${this.path}/content?format=${format}`;
    if (!hasKey()) return save(url, name);
    this.download.disabled = true;
    try {
      const response = await ask(url, { signal: this.stop.signal });
      const blob = await response.blob();
      const link = URL.createObjectURL(blob);
      save(link, name);
      setTimeout(() => URL.revokeObjectURL(link), 60000);
      note(`Saved ${bytes(blob.size)}.`);
    } catch (error) {
      if (error.name !== "AbortError") note(words(error), { bad: true });
    } finally {
      this.download.disabled = false;
    }
  }

  async larger() {
    if (this.live.state !== "finished") return;
    const wanted = await askSize(this.record.width, this.record.height);
    if (!wanted) return;
    try {
      const made = await send(`${this.path}/upscale`, { size: `${wanted[0]}x${wanted[1]}` });
      this.told.go(`#/renders/${made.id}`);
    } catch (error) {
      note(words(error), { bad: true });
    }
  }

  repaint() {
    if (this.live.state !== "finished" || !this.viewer?.item || this.painting) return;
    this.tools.seam(false);
    this.painting = new Repaint(this, {
      done: (made) => { this.#endRepaint(); this.told.go(`#/renders/${made.id}`); }, left: () => this.#endRepaint(),
    });
    this.panel.replaceChildren(this.painting.panel);
    this.painting.begin();
  }

  #endRepaint() {
    this.painting?.close();
    this.painting = null;
    this.panel.replaceChildren(this.detail);
    this.repaintButton.focus();
  }

  shortcut(key) {
    if (this.painting?.shortcut(key)) return true;
    const keys = { r: () => this.repaint(), u: () => this.larger() };
    if (!(key in keys)) return this.tools?.shortcut(key) ?? false;
    keys[key]();
    return true;
  }

  close() {
    this.stop.abort();
    clearTimeout(this.looking);
    this.painting?.close();
    this.viewer?.close();
    this.panel.remove();
    this.stage.remove();
  }
}

const back = () => h("a", { class: "button quiet back", href: "#/renders" }, icon("back"), "Renders");
const slug = (text) => (text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 48) || "picture");

function save(href, name) {
  const link = h("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
