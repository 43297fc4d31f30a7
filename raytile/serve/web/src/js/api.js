// The service, by fetch: one shape of errors, and the key, which only ever travels in the Authorization header.

const STORED = "raytile-key";
let key = sessionStorage.getItem(STORED) ?? "";
let asking = null;
let askForKey = async () => { throw new ApiError(401, { message: "the service asks for an API key" }); };

export class ApiError extends Error {
  constructor(status, { message = "", param = null, code = null } = {}, retryAfter = null) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export const hasKey = () => key !== "";
export const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});
export function forgetKey() { key = ""; sessionStorage.removeItem(STORED); }

// `ask(wrong)` shows the field and resolves to a key, or rejects.
export function onKeyNeeded(ask) { askForKey = ask; }

async function renewKey(used) {
  if (key && key !== used) return;
  asking ??= askForKey(used !== "").then((given) => {
    key = given;
    sessionStorage.setItem(STORED, given);
  }).finally(() => { asking = null; });
  await asking;
}

// A response, asked for again with a key where one is needed; throws ApiError for what is not 2xx.
export async function ask(path, { method = "GET", body = null, type = null, signal = null, extra = {} } = {}) {
  for (;;) {
    const used = key;
    let response;
    try {
      response = await fetch(path, {
        method, signal, body, cache: "no-store",
        headers: { ...(type ? { "Content-Type": type } : {}), ...headers(), ...extra },
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { message: "The service does not answer. Check that raytile serve is running and that you are connected, then try again." });
    }
    if (response.status === 401) {
      await renewKey(used);
      continue;
    }
    if (response.ok) return response;
    throw await problem(response);
  }
}

async function problem(response) {
  let said = {};
  try { said = (await response.json()).error ?? {}; } catch { /* not from the service itself */ }
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const retry = Number.isFinite(wait) ? wait : null;
  if (!said.message) said.message = `The service answered ${response.status}. Try again; if it stays so, look at its log.`;
  return new ApiError(response.status, said, retry);
}

export const get = async (path, options) => (await ask(path, options)).json();

export async function send(path, value, { method = "POST", signal = null, extra = {} } = {}) {
  const response = await ask(path, { method, signal, extra, type: "application/json", body: JSON.stringify(value) });
  return response.status === 204 ? null : response.json();
}

export async function remove(path) { await ask(path, { method: "DELETE" }); }

// What went wrong, and what to do, in one line.
export function words(error) {
  if (error.status === 429) {
    const when = error.retryAfter ? `Try again in ${Math.ceil(error.retryAfter)} s.` : "Try again in a while.";
    return `${sentence(error.message || "The service is full")} ${when}`;
  }
  if (error.status === 413) return sentence(error.message || "That is too large for this service: make it smaller.");
  return sentence(error.message || String(error));
}

function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
