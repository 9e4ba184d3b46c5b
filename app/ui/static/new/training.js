// What to train on the data, and how: proposed from its shape, changed at will.
import { ask } from "./api.js";
import { architectures, described, show } from "./networks.js";
import { number } from "./schema.js";

const OPTIMIZERS = { sgd: { name: "sgd", momentum: 0.9 }, adam: { name: "adam" }, adamw: { name: "adamw", weight_decay: 0.01 } };

/** Brings the fieldset to life. `body()` is what the API takes beside the data. */
export async function training(box, train) {
  const part = (name) => box.querySelector(`[data-${name}]`);
  const field = (name) => box.querySelector(`[name=${name}]`);
  const known = await architectures();
  let proposed = null;

  const sized = () => {
    const name = part("network").value || Object.keys(proposed?.networks ?? {})[0];
    const one = known.get(name);
    part("about").textContent = one?.description ?? "";
    part("config").replaceChildren();
    if (one) show(part("config"), one, proposed?.networks[name]);
  };
  const proposal = async () => {
    const found = train.told();
    if (found?.status !== "ready") return;
    const earlier = proposed;
    proposed = await ask("GET", `/datasets/${found.id}/proposal`);
    const names = Object.keys(proposed.networks);
    for (const option of part("network").options) option.disabled = option.value !== "" && !names.includes(option.value);
    if (!names.includes(part("network").value)) part("network").value = names[0] ?? "";
    for (const name of ["epochs", "batch_size", "learning_rate"]) {
      const input = field(name);
      if (!input.value || Number(input.value) === earlier?.[name]) input.value = proposed[name];
    }
    part("optimizer").value = proposed.optimizer.name;
    part("proposed").textContent = names.length
      ? `Proposed for ${found.num_samples.toLocaleString("en")} samples of ${found.input.shape.join(" × ")}: change what you know better.`
      : "None of the networks here takes such samples alone. Describe the network to the API, or send checkpoints of your own.";
    sized();
  };
  part("network").addEventListener("change", sized);
  train.box.addEventListener("settled", proposal);
  await proposal();

  return {
    get complete() { return Boolean(proposed && part("network").value); },
    body() {
      const name = part("network").value;
      return {
        ...(name ? { architecture: described(name, part("config")) } : {}),
        ...(proposed ? { task: proposed.task } : {}),
        recipe: {
          optimizer: OPTIMIZERS[part("optimizer").value],
          schedule: { name: "cosine", learning_rate: number(field("learning_rate").value) },
          batch_size: number(field("batch_size").value),
          epochs: number(field("epochs").value),
          seed: 0,
        },
        checkpoints: { count: 10 },
        seed: 0,
      };
    },
  };
}
