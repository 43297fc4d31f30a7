// What a wish will cost, asked of the service a moment after the last change.

import { send, words } from "./api.js";
import { h } from "./dom.js";
import { bytes, duration, plural } from "./format.js";

const CALM = 350; // milliseconds

export class Cost {
  constructor(path) {
    this.path = path;
    this.element = h("div", { class: "cost", role: "status", "aria-label": "What it will cost" });
  }

  ask(wish) {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.timer = setTimeout(() => this.#run(wish), CALM);
  }

  async #run(wish) {
    const abort = (this.abort = new AbortController());
    this.element.setAttribute("aria-busy", "true");
    try {
      this.show(await send(this.path, wish, { signal: abort.signal }));
    } catch (error) {
      if (error.name !== "AbortError") this.element.replaceChildren(h("span", { class: "error" }, words(error)));
    } finally {
      if (abort === this.abort) this.element.removeAttribute("aria-busy");
    }
  }

  show(plan) {
    const figures = [plural(plan.evaluations, "evaluation"), plural(plan.tiles, "tile"), plan.cost === null || plan.cost === undefined ? null : money(plan.cost)].filter(Boolean);
    const known = Number.isFinite(plan.seconds);
    this.element.replaceChildren(h("strong", {}, known ? `About ${duration(plan.seconds)}` : figures.shift()), h("span", {}, figures.join(" · ")));
    this.element.title = `${bytes(plan.bytes)} of pixels and latents; up to ${plural(plan.useful_workers, "worker")} at once${known ? "" : "; how long it takes is known once a render has finished"}`;
  }

  clear() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.element.replaceChildren();
  }
}

const money = (cost) => (cost > 0 && cost < 0.01 ? "costs less than 0.01" : `costs ${cost.toFixed(2)}`);
