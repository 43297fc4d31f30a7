// Starts the page: which view the address names, keys, the line about the service.

import { get, onKeyNeeded } from "./api.js";
import { Compose } from "./compose.js";
import { askKey, showKeys } from "./dialogs.js";
import { plural } from "./format.js";
import { Gallery } from "./gallery.js";
import { Show } from "./show.js";

const main = {
  stage: document.getElementById("stage"), panel: document.getElementById("panel"), gallery: document.getElementById("gallery"),
};
const PULSE = 10000; // milliseconds

onKeyNeeded(askKey);

const compose = new Compose({ painted: (made) => go(`#/renders/${made.id}`) });
const gallery = new Gallery(main.gallery);
let shown = null;

const go = (hash) => { location.hash = hash; };

// "#/renders/ID@x,y,zoom" -> {view: "show", id, at}
export function route(hash) {
  const [, id, at] = /^#\/renders\/([A-Za-z0-9_-]+)(?:@([-\d.,]+))?$/.exec(hash) ?? [];
  if (id) return { view: "show", id, at: at ? at.split(",").map(Number) : null };
  return { view: hash.startsWith("#/renders") ? "renders" : "paint" };
}

function open() {
  const { view, id, at } = route(location.hash);
  if (view === "show" && shown?.id === id) return;
  shown?.close();
  shown = null;
  for (const part of [compose.panel, compose.stage]) part.remove();
  main.gallery.hidden = view !== "renders";
  main.stage.hidden = main.panel.hidden = view === "renders";
  for (const link of document.querySelectorAll("nav [data-view]")) {
    const here = link.dataset.view === view || (view === "show" && link.dataset.view === "renders");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = { paint: "raytile", renders: "Renders · raytile", show: "Render · raytile" }[view];
  if (view === "renders") gallery.show();
  else gallery.hide();
  if (view === "paint") {
    main.panel.append(compose.panel);
    main.stage.append(compose.stage);
    compose.show();
  } else if (view === "show") {
    shown = new Show(id, at, {
      go,
      again: (wish) => { compose.fill(wish); go("#/"); },
      moved: (where) => history.replaceState(null, "", `#/renders/${id}@${where.join(",")}`),
      titled: (prompt, state) => { document.title = `${state === "running" ? "● " : ""}${prompt.slice(0, 60)} · raytile`; },
    });
    main.panel.append(shown.panel);
    main.stage.append(shown.stage);
    shown.open();
  }
}

window.addEventListener("hashchange", open);
document.getElementById("help-button").addEventListener("click", showKeys);

window.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("input:not([type=radio]):not([type=range]), textarea, select");
  if (typing && event.key !== "Escape") return;
  if (typing) typing.blur();
  const view = shown ?? (main.gallery.hidden ? compose : null);
  const everywhere = { n: () => go("#/"), g: () => go("#/renders"), "?": showKeys, "/": () => { go("#/"); setTimeout(() => compose.prompt.focus()); } };
  const pressed = event.target.closest?.("button, a, summary") && ["Enter", " "].includes(event.key);
  if (pressed) return;
  if (view?.shortcut(event.key)) event.preventDefault();
  else if (everywhere[event.key]) { event.preventDefault(); everywhere[event.key](); }
});

async function pulse() {
  const line = document.getElementById("pulse");
  try {
    if (!document.hidden) {
      const { crew, running, queued } = await get("/v1/stats");
      const workers = crew?.workers;
      line.textContent = [workers ? plural(workers, "worker") : null, running ? `${running} painting` : null, queued ? `${queued} waiting` : null].filter(Boolean).join(" · ");
    }
  } catch (error) {
    line.textContent = error.status === 0 ? "No answer from the service" : "";
    if (error.status === 403) return;
  }
  setTimeout(pulse, PULSE);
}

open();
pulse();
