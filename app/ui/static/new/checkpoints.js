// The checkpoints of a run to be sent: a row each, with its step, its learning rate and how it stands.
import { ask, isCancelled, Problem, settled } from "./api.js";
import { clear, element, say } from "./errors.js";
import { number } from "./schema.js";
import { guess } from "./steps.js";
import { lying, post, size } from "./transfer.js";

/** `perEpoch()` tells the steps of an epoch, or null. */
export function checkpoints(box, { perEpoch }) {
  const [input, uris] = ["files", "uris"].map((name) => box.querySelector(`[data-${name}]`));
  const rate = box.querySelector("#rate");
  const table = box.querySelector("[data-rows] table");
  let rows = [];

  const shown = () => {
    const some = rows.length > 0;
    for (const name of ["rows", "rate-for-all", "sending"]) box.querySelector(`[data-${name}]`).hidden = !some;
  };
  const order = () => {
    rows.sort((one, other) => Number(one.step.value || Infinity) - Number(other.step.value || Infinity));
    table.append(...rows.map((one) => one.line));
  };
  const called = (file) => file.uri ?? file.name; // many a run calls all of them alike, each in a folder of its own
  const row = (file) => {
    const name = called(file);
    const step = element("input", { inputMode: "numeric", value: guess(name.split("/").slice(-2).join("/"), perEpoch()) ?? "", ariaLabel: `Step of ${name}` });
    const own = element("input", { inputMode: "decimal", value: rate.value, ariaLabel: `Learning rate up to ${name}` });
    const state = element("span", { className: "small soft", textContent: size(file.size) });
    const remove = element("button", { type: "button", className: "quiet small", textContent: "✕", ariaLabel: `Leave out ${name}` });
    const stated = element("td", { colSpan: 5, dataset: { pointer: `/checkpoints/${name}` } });
    const line = element("tbody", { ariaLabel: name },
      element("tr", {}, element("th", { scope: "row", textContent: name }), element("td", { dataset: { told: "step" } }, step), element("td", { dataset: { told: "learning rate" } }, own), element("td", {}, state), element("td", {}, remove)),
      element("tr", { className: "reason" }, stated));
    const made = { file, step, own, state, stated, line, remove, sent: null, status: "new" };
    const atStart = () => { own.disabled = step.value.trim() === "0"; };
    step.addEventListener("input", atStart);
    atStart();
    remove.addEventListener("click", () => {
      if (made.sent) ask("DELETE", made.sent).catch(() => {});
      const at = rows.indexOf(made);
      rows = rows.filter((one) => one !== made);
      line.remove();
      shown();
      (rows[Math.min(at, rows.length - 1)]?.remove ?? input).focus();
    });
    return made;
  };

  const take = (field, files) => {
    const known = new Set(rows.map((one) => called(one.file)));
    rows.push(...files.filter((one) => !known.has(called(one))).map(row));
    field.value = ""; // so that more may be chosen, and the same again
    order();
    shown();
    clear(input.closest("[data-pointer]"));
  };
  input.addEventListener("change", () => take(input, [...input.files]));
  uris?.addEventListener("change", () => {
    const lines = new Set(uris.value.split("\n").map((one) => one.trim()).filter(Boolean));
    take(uris, [...lines].map(lying));
  });
  if (input.files.length) input.dispatchEvent(new Event("change")); // chosen before this script was there
  rate.addEventListener("input", () => {
    for (const one of rows) if (one.status !== "ready" && !one.edited) one.own.value = rate.value;
  });
  table.addEventListener("input", ({ target }) => {
    const found = rows.find((one) => one.own === target);
    if (found) found.edited = true;
  });

  const fields = ({ step, own }) => {
    const told = { step: number(step.value) };
    return step.value.trim() === "0" || own.value.trim() === "" ? told : { ...told, learning_rate: number(own.value) };
  };

  const send = async (one, path, signal) => {
    clear(one.stated);
    for (const field of [one.step, one.own]) field.removeAttribute("aria-invalid");
    if (one.sent) await ask("DELETE", one.sent).catch(() => {}); // the one that was refused
    one.sent = null;
    const bar = element("progress", { max: 1, value: 0, ariaLabel: `Upload of ${one.file.name}` });
    one.state.replaceChildren(bar);
    try {
      const made = await post(path, one.file, fields(one), { onProgress: (share) => { bar.value = share; }, signal });
      one.sent = `${path}/${made.id}`;
      one.state.textContent = "being read";
      one.status = "validating";
    } catch (error) {
      one.status = "failed";
      one.state.textContent = size(one.file.size);
      if (!isCancelled(error)) refuse(one, error);
      throw error;
    }
  };
  const refuse = (one, error) => {
    const told = error.errors ?? [];
    const field = (pointer) => pointer.slice(pointer.lastIndexOf("/") + 1).replaceAll("_", " ");
    say(one.stated, told.length ? told.map(({ pointer, detail }) => (pointer ? `${field(pointer)}: ${detail}` : detail)).join(" ") : error.message);
    const pointers = told.map(({ pointer }) => pointer);
    if (pointers.includes("/step")) one.step.setAttribute("aria-invalid", "true");
    if (pointers.some((at) => at.startsWith("/learning_rate"))) one.own.setAttribute("aria-invalid", "true");
  };
  const check = async (one, signal) => {
    const found = await settled(one.sent, { signal });
    one.status = found.status;
    one.state.textContent = found.status === "ready" ? `✓ ready, ${size(found.bytes)}` : "refused";
    if (found.status === "invalid") say(one.stated, found.error.detail);
  };

  return {
    get count() { return rows.length; },
    /** Forgets what was sent to another trajectory. */
    reset() { for (const one of rows) { one.sent = null; one.status = "new"; one.state.textContent = size(one.file.size); } },
    /** Sends what is not there yet; throws where the service refuses one. `says(words)` tells how it goes. */
    async send(path, { signal, says }) {
      const open = rows.filter((one) => one.status !== "ready");
      let wrong = null;
      for (const [at, one] of open.entries()) {
        says(`Sending checkpoint ${at + 1} of ${open.length}`);
        try { await send(one, path, signal); } catch (error) {
          if (isCancelled(error)) throw error;
          wrong ??= one;
        }
      }
      says("Sent. The service is reading the checkpoints.");
      await Promise.all(open.filter((one) => one.status === "validating").map((one) => check(one, signal)));
      const refused = rows.filter((one) => one.status !== "ready");
      if (!refused.length) return rows.length;
      const at = refused[0].status === "failed" ? refused[0].step : refused[0].remove;
      at.focus();
      const detail = `${refused.length} of ${rows.length} checkpoints were refused: each row says why. Mend or leave them out, and send again.`;
      throw Object.assign(new Problem({ detail }), { told: true, at });
    },
  };
}
