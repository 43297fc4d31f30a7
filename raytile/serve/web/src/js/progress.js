// How far a render has come: its steps, the time to go, and who is at work.

import { h } from "./dom.js";
import { count, duration, plural } from "./format.js";
import { toGo } from "./live.js";

const MOST = 60; // fields of a level that can be told apart

export class Progress {
  constructor() {
    this.what = h("strong");
    this.left = h("span", { class: "soft" });
    this.line = h("div", { class: "neatline", role: "progressbar", "aria-label": "Steps painted", "aria-valuemin": 0 });
    this.crew = h("div", { class: "crew" }, h("ul", { "aria-hidden": "true" }), h("span"));
    this.log = h("ul", { class: "log", "aria-label": "What happened" });
    this.element = h("div", { class: "progress" }, h("div", { class: "figures" }, this.what, this.left), this.line, this.crew, this.log);
  }

  show(live, now = Date.now() / 1000) {
    this.what.textContent = phase(live);
    const left = toGo(live, now);
    this.left.textContent = left === null ? "" : `${duration(left)} to go`;
    this.#steps(live);
    this.#workers(live);
    const told = live.news.at(-1);
    if (told !== this.told) {
      this.told = told;
      this.log.replaceChildren(...live.news.slice(-3).map(({ text, at }) => h("li", {}, h("time", {}, clock(at)), text)));
    }
  }

  #steps(live) {
    const plan = live.plan.length ? live.plan : [1];
    const fields = plan.map((steps) => Math.min(steps, MOST));
    const key = fields.join();
    if (key !== this.key) {
      this.key = key;
      this.line.replaceChildren(...fields.map((many) => {
        const level = h("div", { class: "level" }, Array.from({ length: many }, () => h("i")));
        level.style.flexGrow = many;
        return level;
      }));
    }
    const denoised = live.total > 0 && live.done >= live.total;
    [...this.line.children].forEach((level, l) => {
      const many = fields[l];
      const full = denoised || l < live.level ? many : l > live.level ? 0 : Math.floor((live.step / Math.max(1, live.steps)) * many);
      [...level.children].forEach((one, n) => {
        one.className = n < full ? "done" : live.state === "running" && l === live.level && n === full ? "now" : "";
      });
    });
    this.line.setAttribute("aria-valuemax", String(live.total || 1));
    this.line.setAttribute("aria-valuenow", String(live.done));
    this.line.setAttribute("aria-valuetext", phase(live));
  }

  #workers(live) {
    this.crew.hidden = live.state !== "running";
    const [list, text] = this.crew.children;
    const places = Math.max(live.workers, live.seen);
    while (list.children.length > places) list.lastChild.remove();
    while (list.children.length < places) list.append(h("li"));
    [...list.children].forEach((one, n) => { one.className = n < live.workers ? "" : "gone"; });
    list.hidden = !places;
    text.textContent = live.workers ? `${plural(live.workers, "worker")} at work` : "Workers are on their way";
  }
}

export function phase(live) {
  if (live.state === "queued") return live.ahead ? `Waiting: ${plural(live.ahead, "render")} before it` : "Waiting for workers";
  if (live.state !== "running") return "";
  if (!live.steps) return "Workers load the model";
  if (live.done >= live.total) return `Finishing tile ${count(Math.min(live.tiles + 1, live.tilesTotal || 1))} of ${count(live.tilesTotal || 1)}`;
  const level = live.levels > 1 ? `${live.level + 1 < live.levels ? "Coarse" : "Fine"}, ${live.level + 1} of ${live.levels} · ` : "";
  return `${level}step ${live.step} of ${live.steps}`.replace(/^s/, "S");
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
