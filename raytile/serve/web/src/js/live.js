// What a render's events add up to. Pure: `next(live, event)` gives a new one.
// `level` counts from 0, `step` says how many are done of the `steps` of that level; `plan`: the steps of each level, those
// of levels to come guessed.

export const start = (record = {}) => ({
  state: record.state ?? "queued", level: 0, levels: 0, step: 0, steps: 0, done: 0, total: 0, seconds: 0, at: 0,
  plan: [], tiles: 0, tilesTotal: record.tiles ?? 0, workers: 0, seen: 0, news: [], previews: 0, error: record.error ?? null, ahead: null,
});

const TOLD = { joined: "A worker joined", left: "A worker left", lost: "A worker was lost" };

export function next(live, { event, data, at }) {
  const now = { ...live };
  const tell = (text) => { now.news = [...live.news.slice(-5), { text, at }]; };
  if (event === "queued") now.ahead = data.ahead ?? null;
  else if (event === "started") {
    now.state = "running";
    now.tilesTotal = data.tiles ?? live.tilesTotal;
    now.levels = data.levels ?? live.levels;
    Object.assign(now, { tiles: 0, workers: 0 });
  } else if (event === "step") {
    now.state = "running";
    Object.assign(now, pick(data, ["level", "levels", "step", "steps", "done", "total", "seconds"]), { at });
    now.plan = Array.from({ length: now.levels }, (_, n) => (n === now.level ? now.steps : (live.plan[n] ?? now.steps)));
  } else if (event === "preview") now.previews += 1;
  else if (event === "tile") now.tiles += data.tiles?.length ?? 1;
  else if (event === "worker") {
    now.workers = data.workers ?? live.workers;
    now.seen = Math.max(live.seen, now.workers);
    tell(`${TOLD[data.what] ?? data.what} · ${now.workers} at work`);
  } else if (event === "rolled_back") tell("Going on from the last snapshot");
  else if (["finished", "failed", "cancelled"].includes(event)) {
    now.state = event;
    now.error = data.error ?? data.message ?? null;
    now.workers = 0;
  }
  return now;
}

const pick = (data, names) => Object.fromEntries(names.filter((name) => name in data).map((name) => [name, data[name]]));

export const ended = (state) => ["finished", "failed", "cancelled"].includes(state);

// Share of the work that is done, 0 to 1. Steps weigh as the service says; tiles come after them.
export const share = (live) => (live.state === "finished" ? 1 : live.total ? live.done / live.total : 0);

// Seconds to go, from the pace so far; null as long as nothing can be said.
export function toGo(live, now) {
  if (live.state !== "running" || !live.done || !live.seconds || live.done >= live.total) return null;
  const left = (live.seconds * (live.total - live.done)) / live.done;
  return Math.max(1, left - Math.max(0, now - live.at));
}
