// A data set of the job: chosen among those that are here, or a file sent, or fetched, and read by the service.
import { ask, isCancelled, Problem, settled } from "./api.js";
import { clear, element, say } from "./errors.js";
import { lying, post, size } from "./transfer.js";

const ARRAYS = [".npz", ".safetensors"];
const TABLES = [".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson"];
const ends = (file, endings) => endings.some((one) => file.name.toLowerCase().endsWith(one));

/**
 * Brings a fieldset to life. `like()` gives the training set that this one is to be read as.
 * Fires `settled` when another data set is chosen and ready. The answer's `ready()` waits for what is
 * under way and gives the data set, or null where none is chosen.
 */
export function dataset(box, { like = null } = {}) {
  const part = (name) => box.querySelector(`[data-${name}]`);
  const [select, input, uri, columns, transfer] = ["select", "file", "uri", "columns", "transfer"].map(part);
  const progress = transfer.querySelector("progress");
  const says = (text) => { transfer.querySelector("[data-says]").textContent = text; };
  let controller = null;
  let working = null;
  let unsent = null; // the file that is yet to be sent, or named

  const told = () => {
    const option = select.selectedOptions[0];
    return option?.dataset.told ? JSON.parse(option.dataset.told) : null;
  };
  const tell = () => {
    const found = told();
    part("facts").textContent = found?.input
      ? `${found.num_samples.toLocaleString("en")} samples of ${found.input.shape.join(" × ") || "1"} (${found.input.dtype})${found.num_classes ? `, ${found.num_classes} classes` : ""}`
      : "";
  };

  const fields = async (file) => {
    const sent = { name: file.name.replace(/(\.tar)?\.\w+$/, "").slice(0, 200) || "data" };
    if (ends(file, ARRAYS)) return sent;
    if (like) {
      const other = await like();
      if (!other) throw new Problem({ detail: "Choose or upload the training data first: this file is read as that one was, with the same columns, label names and scales." });
      if (!ARRAYS.includes(`.${other.format}`)) return { ...sent, like: other.id };
    }
    const targets = part("targets").value.trim();
    const inputs = part("inputs").value.split(",").map((one) => one.trim()).filter(Boolean);
    const named = { ...(targets ? { targets } : {}), ...(inputs.length ? { inputs: inputs.length === 1 ? inputs[0] : inputs } : {}) };
    return ends(file, TABLES) && Object.keys(named).length ? { ...sent, columns: named } : sent;
  };

  const send = async (file) => {
    clear(box);
    controller = new AbortController();
    const { signal } = controller;
    transfer.hidden = false;
    progress.value = 0;
    says(file.uri ? "Asking the service to fetch it" : `Sending ${file.name}, ${size(file.size)}`);
    part("cancel").hidden = false;
    try {
      const sent = await fields(file);
      const onProgress = (share) => {
        progress.value = share;
        says(share < 1 ? `Sending ${file.name}: ${Math.floor(100 * share)}% of ${size(file.size)}` : "Sent. The service is reading it.");
      };
      const made = await post("/v1/datasets", file, sent, { onProgress, signal });
      progress.removeAttribute("value");
      says(file.uri ? "The service fetches and reads it." : "Sent. The service is reading it.");
      const found = await settled(`/v1/datasets/${made.id}`, { signal }).catch(async (error) => {
        if (isCancelled(error)) ask("DELETE", `/v1/datasets/${made.id}`).catch(() => {});
        throw error;
      });
      if (found.status === "invalid") {
        ask("DELETE", `/v1/datasets/${made.id}`).catch(() => {});
        throw new Problem({ detail: found.error.detail });
      }
      add(found);
      unsent = null;
      columns.hidden = true;
      return found;
    } catch (error) {
      if (isCancelled(error)) { forget(); return null; }
      const field = file.uri ? uri : input;
      const at = say(columns.hidden ? field.closest(".field") : columns, error.message, { alert: true });
      throw Object.assign(error, { told: true, at });
    } finally {
      transfer.hidden = true;
      controller = null;
    }
  };

  const add = (found) => {
    const option = element("option", { value: found.id, textContent: `${found.name} (${found.num_samples.toLocaleString("en")} samples)`, selected: true, dataset: { told: JSON.stringify(found) } });
    select.append(option);
    for (const other of document.querySelectorAll("[data-dataset] [data-select]")) {
      if (other !== select) other.append(Object.assign(option.cloneNode(true), { selected: false }));
    }
    changed();
  };
  const changed = () => {
    tell();
    box.dispatchEvent(new CustomEvent("settled", { bubbles: true }));
  };
  const begin = (file) => {
    working = send(file).finally(() => { working = null; });
    working.catch(() => {}); // told at the field already
  };

  /** Nothing is to be sent. */
  const forget = () => {
    input.value = "";
    if (uri) uri.value = "";
    unsent = null;
    columns.hidden = true;
  };
  const choose = (file) => {
    controller?.abort();
    clear(box);
    unsent = file;
    const asks = Boolean(unsent) && ends(unsent, TABLES) && !like;
    columns.hidden = !asks;
    part("send").textContent = unsent?.uri ? "Fetch" : "Upload";
    if (unsent && !asks) begin(unsent);
  };

  input.addEventListener("change", () => {
    if (uri) uri.value = "";
    choose(input.files[0] ?? null);
  });
  uri?.addEventListener("change", () => {
    input.value = "";
    choose(uri.value.trim() ? lying(uri.value.trim()) : null);
  });
  part("send").addEventListener("click", () => { if (unsent && !working) begin(unsent); });
  part("cancel").addEventListener("click", () => controller?.abort());
  select.addEventListener("change", async () => {
    controller?.abort();
    clear(box);
    forget();
    const found = told();
    if (found?.status === "validating") {
      const now = await settled(`/v1/datasets/${found.id}`);
      const option = [...select.options].find((one) => one.value === found.id);
      option.dataset.told = JSON.stringify(now);
      if (now.status === "invalid") say(box, now.error.detail);
    }
    changed();
  });
  tell();
  if (input.files.length) input.dispatchEvent(new Event("change")); // chosen before this script was there

  return {
    box,
    told,
    /** The data set that is chosen, once what is under way is done; null where none is. */
    async ready() {
      if (unsent && !working) begin(unsent);
      if (working) await working;
      return told();
    },
  };
}
