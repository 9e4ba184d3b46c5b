// Asks the service, as the page's own scripts may: by the session's cookie and its token.

/** What went wrong, in the service's words. `errors` are {pointer, detail}, one a field. */
export class Problem extends Error {
  constructor({ status = 0, detail = "", code = "", errors = [] }) {
    super(detail);
    Object.assign(this, { status, code, errors });
  }
}

/** Thrown by what somebody cancelled. */
export const cancelled = () => new DOMException("cancelled", "AbortError");
export const isCancelled = (error) => error.name === "AbortError";

const token = () => document.querySelector("meta[name=csrf-token]").content;
const away = () => new Problem({ detail: "The service does not answer. Is it still running? Nothing you typed is lost: try again." });
const words = (status) => ({ detail: status === 401 ? "You are signed out: sign in again in another tab, then go on here." : `The service answered ${status}.` });

/** What an answer's text says: its JSON, or a thrown Problem. */
export function read(status, text) {
  let told = null;
  try { told = text ? JSON.parse(text) : null; } catch { /* a proxy's page, say */ }
  if (status >= 200 && status < 300) return told;
  throw new Problem({ status, ...(told?.detail ? told : words(status)) });
}

/** One request with JSON either way. */
export async function ask(method, path, body, { signal } = {}) {
  const headers = { Accept: "application/json", "X-CSRF-Token": token() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
    return read(answer.status, await answer.text());
  } catch (error) {
    if (error instanceof Problem || isCancelled(error)) throw error;
    throw away();
  }
}

/** Sends bytes or a form, telling how many of them have gone. */
export function send(method, path, body, { onProgress = () => {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) { reject(cancelled()); return; }
    const request = new XMLHttpRequest();
    request.open(method, path);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", token());
    request.upload.addEventListener("progress", ({ loaded }) => onProgress(loaded));
    request.addEventListener("load", () => {
      try { resolve(read(request.status, request.responseText)); } catch (error) { reject(error); }
    });
    request.addEventListener("error", () => reject(away()));
    request.addEventListener("abort", () => reject(cancelled()));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

/** A resource once the service is done reading it, whatever it thinks of it. */
export async function settled(path, { signal } = {}) {
  for (let wait = 150; ; wait = Math.min(wait * 1.5, 1500)) {
    const found = await ask("GET", path, undefined, { signal });
    if (found.status !== "validating") return found;
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (signal?.aborted) throw cancelled();
  }
}
