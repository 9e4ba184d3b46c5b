// A new job, from what somebody has: the parts of the page, put together.
import { ask, isCancelled } from "./api.js";
import { dataset } from "./dataset.js";
import { clear, show } from "./errors.js";
import { estimate } from "./estimate.js";
import { method } from "./method.js";
import { run } from "./run.js";
import { training } from "./training.js";
import { moving } from "./transfer.js";

const form = document.querySelector("[data-new]");
const way = form.dataset.new;
const doing = (text) => { form.querySelector("[data-doing]").textContent = text; };
for (const one of form.querySelectorAll("[data-scripted]")) one.hidden = false;

const train = dataset(form.querySelector("[data-dataset=train]"));
const query = dataset(form.querySelector("[data-dataset=query]"), { like: () => train.ready() });
const wanted = (name) => { const found = form.elements[name].value.trim(); return found ? { [name]: found } : {}; };
const data = () => ({ ...wanted("train_dataset_id"), ...wanted("query_dataset_id"), name: form.elements.name.value });

/** The parts of either way: `pending()` waits for what is under way, `body()` is the job, `whole()` whether it is. */
async function parts() {
  if (way === "train") {
    const trained = await training(form.querySelector("[data-training]"), train);
    return { pending: async () => {}, body: () => ({ type: "train", ...data(), ...trained.body() }), whole: () => trained.complete };
  }
  const [scored, made] = await Promise.all([method(form), run(form.querySelector("[data-run]"), form, train)]);
  return {
    pending: () => made.ready(),
    body: () => ({ type: "influence", ...data(), ...wanted("trajectory_id"), method: scored.body() }),
    whole: () => Boolean(made.id && (form.elements.query_dataset_id.value || !scored.needsQuery)),
  };
}

const button = form.querySelector("[data-start]");
let begun = null; // the parts, once the service has told what they need
const started = parts().then((found) => { begun = found; update(); }).catch((error) => show(form, error));
const update = estimate(form.querySelector("[data-estimate]"), () =>
  begun && form.elements.train_dataset_id.value && begun.whole() ? begun.body() : null);
for (const event of ["input", "change", "settled"]) form.addEventListener(event, update);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (button.disabled) return;
  button.disabled = true;
  doing("One moment…");
  try {
    await started;
    await train.ready();
    await query.ready();
    await begun.pending();
    clear(form);
    const job = await ask("POST", "/v1/jobs", begun.body());
    location.assign(`/jobs/${job.id}`);
  } catch (error) {
    doing("");
    if (isCancelled(error)) doing("Cancelled.");
    else if (error.told) error.at?.focus();
    else show(form, error);
  } finally {
    button.disabled = false;
  }
});

// Leaving would cut off what is being sent: browsers ask first.
addEventListener("beforeunload", (event) => { if (moving.files) event.preventDefault(); });

// The other way keeps the data that was chosen.
for (const link of document.querySelectorAll("[data-way]")) {
  link.addEventListener("click", () => {
    const address = new URL(link.href);
    for (const name of ["train_dataset_id", "query_dataset_id"]) {
      if (form.elements[name].value) address.searchParams.set(name, form.elements[name].value);
    }
    link.href = address;
  });
}
