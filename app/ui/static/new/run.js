// The run of the job: one that is here, or a new one described and sent with its checkpoints.
import { ask, isCancelled, Problem, send } from "./api.js";
import { checkpoints } from "./checkpoints.js";
import { clear, element, show as showProblem } from "./errors.js";
import { architectures, described, show } from "./networks.js";
import { number } from "./schema.js";

const LOSSES = { classification: "cross_entropy", binary: "bce_with_logits", regression: "mse", causal_lm: "cross_entropy", contrastive: "clip" };

/** Brings the fieldset to life. `form` is where problems are shown, `train` the part with the training data. */
export async function run(box, form, train) {
  const part = (name) => box.querySelector(`[data-${name}]`);
  const select = part("select");
  const fresh = part("new-run");
  const says = (text) => { box.querySelector("[data-sending] [data-says]").textContent = text; };
  let known = new Map();
  let proposed = null;
  let made = null; // {id, told}: what was created for this description
  let working = null;
  let controller = null;

  select.options[0].textContent = select.options[0].dataset.scriptedText;
  const perEpoch = () => {
    const samples = train.told()?.num_samples, batch = Number(part("batch").value);
    return samples && batch > 0 ? Math.ceil(samples / batch) : null;
  };
  const rows = checkpoints(box, { perEpoch });

  const look = (...words) => {
    const link = element("a", { href: `/trajectories/${select.value}`, textContent: "Look at this run" });
    part("facts").replaceChildren(...(select.value ? [...words, link] : []));
  };
  const changed = () => {
    fresh.hidden = select.value !== "";
    form.dispatchEvent(new CustomEvent("settled"));
  };
  const network = () => known.get(part("network").value);
  const sized = () => {
    const one = network();
    if (!one) return;
    part("about").textContent = one.description;
    part("tensors").textContent = one.name === "onnx" ? "" : `: ${one.tensors}`;
    part("graph").hidden = one.name !== "onnx";
    show(part("config"), one, proposed?.networks[one.name]);
  };
  const proposal = async () => {
    const found = train.told();
    if (found?.status !== "ready") return;
    proposed = await ask("GET", `/datasets/${found.id}/proposal`).catch(() => null);
    if (!proposed || made) return;
    const [first] = Object.keys(proposed.networks);
    if (first) part("network").value = first;
    part("task").value = proposed.task.type;
    sized();
  };

  const description = () => {
    const list = (name) => { const text = part(name).value.trim(); return text ? text.split(/[\s,;]+/).filter(Boolean).map(number) : []; };
    const type = part("task").value;
    const [scale, mean, std] = [part("scale").value.trim(), list("mean"), list("std")];
    const momentum = number(part("momentum").value || "0");
    const told = {
      name: part("name").value,
      architecture: described(part("network").value, part("config")),
      task: { type, loss: LOSSES[type] },
      optimizer: { name: part("optimizer").value, weight_decay: number(part("decay").value || "0"), ...(momentum === 0 ? {} : { momentum }) },
      preprocessing: { scale: scale ? number(scale) : null, mean, std },
    };
    if (part("batch").value.trim()) told.batch_size = number(part("batch").value);
    return told;
  };
  const created = async (signal) => {
    const told = description();
    const graph = part("graph").querySelector("input").files[0];
    const key = JSON.stringify([told, graph?.name, graph?.size]);
    if (made?.key === key) return made.id;
    if (made) { await ask("DELETE", `/v1/trajectories/${made.id}`).catch(() => {}); made = null; rows.reset(); }
    let answer;
    if (told.architecture.name === "onnx") {
      const sent = new FormData();
      sent.append("trajectory", JSON.stringify(told));
      if (graph) sent.append("architecture_file", graph, graph.name);
      answer = await send("POST", "/v1/trajectories", sent, { signal });
    } else answer = await ask("POST", "/v1/trajectories", told, { signal });
    made = { id: answer.id, key };
    return made.id;
  };
  const act = async () => {
    clear(box);
    controller = new AbortController();
    const stop = part("stop");
    stop.hidden = false;
    try {
      if (!rows.count) {
        const detail = "Choose the run's checkpoints.";
        throw new Problem({ detail, errors: [{ pointer: "/checkpoints", detail }] });
      }
      const id = await created(controller.signal);
      const count = await rows.send(`/v1/trajectories/${id}/checkpoints`, { signal: controller.signal, says });
      select.append(element("option", { value: id, textContent: `${part("name").value} (${part("network").value}, ${count} checkpoints)`, selected: true }));
      made = null;
      says("");
      look(`Sent with ${count} ${count === 1 ? "checkpoint" : "checkpoints"}, ready all of them. `);
      changed();
    } catch (error) {
      says(isCancelled(error) ? "Cancelled. What was sent stays; send again to go on." : error.told ? error.message : "");
      throw error;
    } finally {
      stop.hidden = true;
      controller = null;
    }
  };
  const begin = () => {
    working ??= act().finally(() => { working = null; });
    return working;
  };

  part("network").addEventListener("change", sized);
  part("optimizer").addEventListener("change", () => {
    const momentum = part("momentum");
    momentum.closest(".field").hidden = part("optimizer").value !== "sgd";
    if (part("optimizer").value !== "sgd") momentum.value = "0";
  });
  part("stop").addEventListener("click", () => controller?.abort());
  part("send-run").addEventListener("click", () => begin().catch((error) => {
    if (!isCancelled(error) && !error.told) showProblem(form, error);
  }));
  select.addEventListener("change", () => { look(); changed(); });
  train.box.addEventListener("settled", proposal);
  fresh.hidden = select.value !== "";
  look();

  known = await architectures();
  part("network").replaceChildren(...[...known.values()].map((one) => element("option", { value: one.name, textContent: one.name.startsWith("hf/") ? `${one.name.slice(3)} (transformers)` : one.title })));
  sized();
  await proposal();

  return {
    /** The chosen run's id, once what is under way is done; "" where none is chosen. */
    async ready() {
      if (select.value === "" && (rows.count || working)) await begin();
      return select.value;
    },
    get id() { return select.value; },
  };
}
