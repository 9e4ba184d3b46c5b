// What the job will cost, told whenever what it is asked to do is whole.
import { ask } from "./api.js";
import { size } from "./transfer.js";

const spell = (seconds) => {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
};

/** `body()` gives the job, or null while something is missing. Returns what to call after a change. */
export function estimate(box, body) {
  const says = box.querySelector("[data-says]");
  let asked = 0;
  return async () => {
    const mine = ++asked;
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (mine !== asked) return;
    let words;
    try {
      const job = body();
      if (!job) { box.hidden = true; return; }
      const found = await ask("POST", "/v1/jobs/estimate", job);
      const passes = `${found.forward_passes.toLocaleString("en")} forward passes, up to ${size(found.memory_bytes)} of memory`;
      words = found.seconds === null
        ? `${passes}. How long that takes is known once a job like it has run here.`
        : `About ${spell(found.seconds)} on ${found.device}: ${passes}.`;
    } catch (error) {
      if (error.status === 0) return; // away for a moment, or this page is being left
      words = `It can't start like this: ${error.message}`;
    }
    if (mine !== asked) return;
    box.hidden = false;
    if (says.textContent !== words) says.textContent = words;
  };
}
