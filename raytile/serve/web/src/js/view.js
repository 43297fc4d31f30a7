// One canvas and nothing else (`raytile view`): what it shows now, and on, while somebody paints it.

import { get, words } from "./api.js";
import { note } from "./dom.js";
import { STATES, size } from "./format.js";
import { Tools, sidesOf } from "./tools.js";
import { Viewer } from "./viewer.js";

const AGAIN = 1500; // milliseconds between two looks at a canvas that is being painted
const stage = document.getElementById("stage");
const [title, facts, state] = ["title", "facts", "state"].map((id) => document.getElementById(id));
let viewer = null;
let tools = null;
let tag = null;

async function look() {
  try {
    const canvas = await get("/v1/view");
    title.textContent = canvas.request.prompt || canvas.name;
    document.title = `${title.textContent.slice(0, 60)} · raytile`;
    state.dataset.state = canvas.state;
    state.textContent = STATES[canvas.state] ?? canvas.state;
    const { step, steps } = canvas.progress ?? {};
    facts.textContent = [size(canvas.width, canvas.height), canvas.state === "running" && step ? `step ${step} of ${steps}` : ""].filter(Boolean).join(" · ");
    if (!viewer) await open(canvas);
    else if (canvas.tag !== tag) viewer.refresh();
    tag = canvas.tag;
    if (canvas.state === "running") setTimeout(look, AGAIN);
  } catch (error) {
    note(words(error), { bad: true, action: { label: "Try again", run: look } });
  }
}

async function open({ request }) {
  viewer = new Viewer(stage, {
    moved: (at) => history.replaceState(null, "", `#@${at.join(",")}`), tileFailed: () => note("Part of the picture could not be read.", { bad: true }),
    ready: () => { stage.dataset.ready = "true"; }, refreshed: (version) => { stage.dataset.version = version; },
  });
  tools = new Tools(stage, viewer, sidesOf(request));
  const at = /^#@([-\d.,]+)$/.exec(location.hash)?.[1].split(",").map(Number) ?? null;
  await viewer.open("/v1/view.dzi", { at });
}

window.addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.metaKey && !event.altKey && tools?.shortcut(event.key)) event.preventDefault();
});

look();
