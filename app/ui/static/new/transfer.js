// Files on their way to the service: whole, in parts where they are large, or named where they lie.
import { ask, cancelled, isCancelled, Problem, send } from "./api.js";

export const WHOLE = 64 * 1024 * 1024; // larger ones go in parts
const TRIES = 4;
export const moving = { files: 0 }; // on their way just now

/** A file that the service is to fetch from a store: what else takes a `File` takes this too. */
export const lying = (uri) => ({ uri, name: uri.slice(uri.lastIndexOf("/") + 1), size: null });

/**
 * Posts a file with fields to `path`, and returns what the service made of it.
 * `onProgress(share)` goes from 0 to 1.
 */
export async function post(path, file, fields, options = {}) {
  moving.files++;
  try { return await posted(path, file, fields, options); } finally { moving.files--; }
}

async function posted(path, file, fields, { onProgress = () => {}, signal }) {
  if (file.uri) return ask("POST", path, { ...fields, uri: file.uri }, { signal });
  if (file.size > WHOLE) {
    const upload_id = await inParts(file, { onProgress, signal });
    return ask("POST", path, { ...fields, upload_id }, { signal });
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  }
  form.append("file", file, file.name);
  return send("POST", path, form, { onProgress: (sent) => onProgress(Math.min(1, sent / (file.size || 1))), signal });
}

/**
 * Sends a file part by part, each again where the connection breaks; returns the upload's id. Parts are as
 * large as the service says, or `part` bytes.
 */
export async function inParts(file, { onProgress = () => {}, signal, part = null } = {}) {
  const told = { filename: file.name, bytes: file.size, ...(part ? { part_bytes: part } : {}) };
  const upload = await ask("POST", "/v1/uploads", told); // not to be cancelled: nobody would know of it
  const path = `/v1/uploads/${upload.id}`;
  try {
    if (signal?.aborted) throw cancelled();
    for (let number = 1; number <= upload.num_parts; number++) {
      const start = (number - 1) * upload.part_bytes;
      const piece = file.slice(start, Math.min(file.size, start + upload.part_bytes));
      await patiently(signal, () => send("PUT", `${path}/parts/${number}`, piece, {
        onProgress: (sent) => onProgress(Math.min(1, (start + Math.min(sent, piece.size)) / file.size)),
        signal,
      }));
    }
    await ask("POST", `${path}/complete`, undefined, { signal });
    return upload.id;
  } catch (error) {
    await ask("DELETE", path).catch(() => {}); // it would expire by itself
    throw error;
  }
}

async function patiently(signal, act) {
  for (let tried = 1; ; tried++) {
    try {
      return await act();
    } catch (error) {
      const passing = error instanceof Problem && (error.status === 0 || error.status === 409 || error.status >= 500);
      if (isCancelled(error) || !passing || tried === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** tried));
    }
  }
}

/** A file's size as people read it, where it is known. */
export function size(bytes) {
  if (bytes === null) return "";
  let amount = bytes, at = 0;
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  while (amount >= 1000 && at < units.length - 1) { amount /= 1000; at++; }
  return `${amount.toLocaleString("en", { maximumFractionDigits: at && amount < 100 ? 1 : 0 })} ${units[at]}`;
}
