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
    const time = plan.seconds ?? plan.estimated_seconds;
    this.element.replaceChildren(
      h("strong", {}, Number.isFinite(time) ? `About ${duration(time)}` : "Time not known yet"),
      h("span", {}, [plural(plan.evaluations, "evaluation"), plural(plan.tiles, "tile"), plan.cost ? money(plan) : null].filter(Boolean).join(" · ")));
    this.element.title = plan.bytes ? `Workers exchange about ${bytes(plan.bytes)}` : "";
  }

  clear() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.element.replaceChildren();
  }
}

const money = ({ cost, currency }) => `${cost < 0.01 ? "under 0.01" : cost.toFixed(2)}${currency ? ` ${currency}` : ""}`;
