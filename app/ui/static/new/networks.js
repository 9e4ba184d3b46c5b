// The networks that the service knows, and their sizes as a form.
import { ask } from "./api.js";
import { example, fill, fillJson, isFlat, values } from "./schema.js";

/** What `GET /v1/architectures` lists, by name. */
export async function architectures() {
  const { data } = await ask("GET", "/v1/architectures");
  return new Map(data.map((one) => [one.name, one]));
}

/** Shows the sizes of `network` in `box`, begun with the `config` proposed for it. */
export function show(box, network, config) {
  if (network.name === "onnx") box.replaceChildren();
  else if (isFlat(network.schema) && !network.name.startsWith("hf/")) fill(box, network.schema, config ?? {});
  else fillJson(box, { ...example(network.schema), ...config }, network.name.startsWith("hf/") ? "What transformers saved as config.json, or the part of it that matters." : "As the schema in the API's documentation says.");
}

/** The architecture as the API takes it. */
export const described = (name, box) => (name === "onnx" ? { name } : { name, config: values(box) });
