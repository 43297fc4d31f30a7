// All renders of this key: what they show, how far they are.

import { ask, get, words } from "./api.js";
import { h } from "./dom.js";
import { STATES, ago, size } from "./format.js";
import { ended } from "./live.js";

const PAGE = 30;
const RETRIES = 5; // of a thumbnail that could not be had
const AGAIN = 4000; // milliseconds between two looks at those that are not ended
const WATCHED = 12; // of them, the newest
const ANEW = 10; // looks after which the list is asked for again

export class Gallery {
  constructor(room) {
    this.room = room;
    this.cards = h("div", { class: "cards" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.#load(this.last) }, "Show older ones");
    this.empty = h("div", { class: "empty", hidden: true }, h("h1", {}, "No renders yet"),
      h("p", {}, "What you paint is kept here: while it waits, while it is being painted, and when it is finished."), h("a", { class: "button", href: "#/" }, "Paint the first one"));
    this.problem = h("p", { class: "error", role: "alert", hidden: true });
    room.append(h("div", { class: "inner" }, h("h1", { class: "sr" }, "Renders"), this.problem, this.empty, this.cards, h("div", {}, this.more)));
    this.known = new Map();
  }

  show() {
    this.open = true;
    this.#load(null);
  }

  hide() {
    this.open = false;
    clearTimeout(this.timer);
  }

  async #load(after) {
    clearTimeout(this.timer);
    try {
      const found = await get(`/v1/renders?limit=${PAGE}${after ? `&after=${after}` : ""}`);
      if (!this.open) return;
      this.problem.hidden = true;
      this.#put(found.data, after);
      if (after || this.last === undefined || found.data.length >= PAGE) this.last = found.data.at(-1)?.id;
      this.more.hidden = !found.has_more;
      this.empty.hidden = this.cards.childElementCount > 0;
    } catch (error) {
      this.problem.textContent = words(error);
      this.problem.hidden = false;
    }
    this.#later(ANEW);
  }

  // Looks again at what is being painted, and at times at the list: others may have begun something.
  #later(looks) {
    clearTimeout(this.timer);
    if (this.open) this.timer = setTimeout(() => (looks > 0 ? this.#look(looks - 1) : this.#load(null)), AGAIN);
  }

  async #look(looks) {
    const watched = [...this.known.values()].filter(({ record }) => !ended(record.state)).slice(-WATCHED);
    await Promise.all(watched.map(async (card) => {
      try {
        card.fill((card.record = await get(`/v1/renders/${card.record.id}`)));
      } catch { /* the list will tell */ }
    }));
    this.#later(looks);
  }

  #put(records, after) {
    if (!after) {
      const there = new Set(records.map(({ id }) => id));
      for (const [id, { element }] of this.known) if (!there.has(id) && records.length < PAGE) { element.remove(); this.known.delete(id); }
    }
    for (const record of records) {
      const before = this.known.get(record.id);
      const card = before ?? this.#card(record);
      card.record = record;
      card.fill(record);
      if (before) continue;
      this.known.set(record.id, card);
    }
    const newest = [...this.known.values()].sort((one, other) => (one.record.id < other.record.id ? 1 : -1));
    if (newest.some(({ element }, n) => this.cards.children[n] !== element)) this.cards.append(...newest.map(({ element }) => element));
  }

  #card(record) {
    const figure = h("figure");
    const title = h("span", { class: "title" });
    const state = h("span", { class: "state" });
    const under = h("span");
    const element = h("a", { class: "card", href: `#/renders/${record.id}` }, figure, title, h("span", { class: "under" }, state, under));
    let seen = "", tries = 0;
    const card = {
      element, record,
      fill: (now) => {
        title.textContent = now.request?.prompt || "Without words";
        state.textContent = STATES[now.state];
        state.dataset.state = now.state;
        under.textContent = `${size(now.width, now.height)} · ${ago(now.created)}`;
        const version = ended(now.state) ? now.state : `${now.state}${now.updated ?? Date.now()}`;
        if (version === seen || now.state === "queued") return;
        seen = version;
        thumbnail(now).then((url) => {
          tries = 0;
          const image = h("img", { alt: "", src: url, onload: () => { figure.replaceChildren(image); URL.revokeObjectURL(url); } });
        }, () => {
          seen = ""; // a service that is busy has it later
          if (tries++ < RETRIES) setTimeout(() => element.isConnected && card.fill(card.record), 2000 * tries);
        });
      },
    };
    return card;
  }
}

// The smallest level of the deep zoom that is worth looking at, one tile.
async function thumbnail({ id, width, height }) {
  const top = Math.ceil(Math.log2(Math.max(width, height)));
  const response = await ask(`/v1/renders/${id}_files/${Math.min(top, 9)}/0_0.jpeg`);
  return URL.createObjectURL(await response.blob());
}
