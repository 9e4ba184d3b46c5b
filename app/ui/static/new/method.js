// How to score: the method, what it says and costs, and its options.
import { ask } from "./api.js";
import { fill, values } from "./schema.js";

/** Brings the method's fields to life. `body()` is what the API takes as `method`. */
export async function method(form) {
  const select = form.querySelector("[data-method]");
  const options = form.querySelector("[data-options]");
  const perQuery = form.querySelector("[data-per-query]");
  const { data } = await ask("GET", "/v1/methods");
  const known = new Map(data.map((one) => [one.name, one]));
  const chosen = () => known.get(select.value);
  const tell = () => {
    const one = chosen();
    const { per_sample_per_checkpoint: passes, curvature } = one.cost;
    form.querySelector("[data-about-method]").textContent =
      `${select.selectedOptions[0].dataset.words} Cost: ${passes} forward ${passes === 1 ? "pass" : "passes"} a sample and checkpoint${curvature === "none" ? "" : `, and ${curvature}`}.`;
    perQuery.hidden = !("per_query" in one.schema.properties);
    fill(options, one.schema, {}, { skip: ["name", "per_query"] });
  };
  select.addEventListener("change", tell);
  tell();
  return {
    get needsQuery() { return chosen().needs_query; },
    body() {
      const told = { name: select.value, ...values(options) };
      if (!perQuery.hidden && perQuery.querySelector("input").checked) told.per_query = true;
      return told;
    },
  };
}
