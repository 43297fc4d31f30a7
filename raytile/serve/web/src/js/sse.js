// Server-sent events read by fetch, since EventSource cannot send a header. Picks up where it was cut off.

import { ask } from "./api.js";

// Splits text that comes in pieces into {id, event, data}.
export function parser() {
  let rest = "";
  return (text) => {
    rest += text;
    const found = [];
    for (let end; (end = /\r?\n\r?\n/.exec(rest)); ) {
      const block = rest.slice(0, end.index);
      rest = rest.slice(end.index + end[0].length);
      const event = { id: null, event: "message", data: "" };
      for (const line of block.split(/\r?\n/)) {
        const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
        if (name === "data") event.data += event.data ? `\n${value}` : value;
        else if (name === "event" || name === "id") event[name] = value;
      }
      if (event.data) found.push(event);
    }
    return found;
  };
}

const pause = (milliseconds, signal) =>
  new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });

// Calls `tell({id, event, data})` for each event until `isLast(event)`; `trouble(error | null)` when the line is cut and
// when it stands again. Ends, too, when `signal` aborts or the service says that there is nothing more to tell.
export async function follow(path, { signal, tell, isLast, trouble = () => {} }) {
  let last = 0;
  let failures = 0;
  while (!signal.aborted) {
    try {
      const response = await ask(path, { signal, extra: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": String(last) } : {}) } });
      if (response.status === 204) return; // nothing more will come
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = parser();
      if (failures) trouble(null);
      for (let piece; !(piece = await reader.read()).done; ) {
        failures = 0;
        for (const { id, event, data } of parse(piece.value)) {
          const number = Number(id);
          if (number && number <= last) continue;
          if (number) last = number;
          const told = { id: number, event, data: JSON.parse(data) };
          tell(told);
          if (isLast(told)) return;
        }
      }
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      if ([401, 403, 404].includes(error.status)) throw error;
      trouble(error);
    }
    failures += 1;
    await pause(Math.min(10000, 300 * 2 ** failures), signal);
  }
}
