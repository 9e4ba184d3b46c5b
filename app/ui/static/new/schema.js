// A form made from a JSON schema of flat options, and read back as JSON.
import { Problem } from "./api.js";
import { element } from "./errors.js";

const spoken = (name) => name.replaceAll("_", " ");
let forms = 0;

/** Whether every property is a number, a word, a choice or a list of numbers. */
export const isFlat = (schema) => Object.values(schema.properties).every((one) => kindOf(one).kind !== "json");

/** Fills `box` with fields for `schema`, begun with `values`; `skip` names properties to leave out. */
export function fill(box, schema, values = {}, { pointer = box.dataset.pointer, skip = [] } = {}) {
  const id = `sizes-${++forms}`;
  const names = Object.keys(schema.properties).filter((name) => !skip.includes(name) && usable(schema.properties[name]));
  const needed = new Set(schema.required ?? []);
  names.sort((one, other) => needed.has(other) - needed.has(one));
  box.replaceChildren(...names.map((name) => {
    const told = kindOf(schema.properties[name]);
    const value = name in values ? values[name] : schema.properties[name].default;
    const field = inputFor(told, value, `${id}-${name}`);
    field.dataset.option = name;
    field.dataset.kind = told.kind;
    if (told.nullable) field.dataset.nullable = "";
    const label = element("label", { htmlFor: field.id, textContent: spoken(name) });
    const hint = element("p", { className: "hint", id: `${field.id}-hint`, textContent: hintOf(schema.properties[name], told) });
    field.setAttribute("aria-describedby", hint.id);
    const wide = told.kind === "json" ? " wide" : "";
    return element("div", { className: `field${wide}`, dataset: { pointer: `${pointer}/${name}` } }, label, field, hint, element("p", { className: "error", hidden: true, dataset: { error: "" } }));
  }));
}

/** A box for the whole object as JSON, where it is not flat. */
export function fillJson(box, example, hint) {
  const id = `sizes-${++forms}`;
  box.replaceChildren(element("div", { className: "field wide" },
    element("label", { htmlFor: id, textContent: "Config, as JSON" }),
    element("textarea", { id, value: JSON.stringify(example, null, 2), spellcheck: false, dataset: { whole: "" } }),
    element("p", { className: "hint", textContent: hint }),
    element("p", { className: "error", hidden: true, dataset: { error: "" } })));
}

/** What a filled box says. Numbers that are none go as they are, for the service to refuse in its words. */
export function values(box) {
  const whole = box.querySelector("[data-whole]");
  if (whole) return parsed(whole.value, box.dataset.pointer);
  const found = {};
  for (const field of box.querySelectorAll("[data-option]")) {
    const { option, kind } = field.dataset;
    const text = field.value.trim();
    if (kind === "boolean") found[option] = field.checked;
    else if (text === "") { if ("nullable" in field.dataset) found[option] = null; else if (kind === "list") found[option] = []; }
    else if (kind === "number") found[option] = number(text);
    else if (kind === "list") found[option] = text.split(/[\s,;×]+/).filter(Boolean).map(number);
    else if (kind === "json") found[option] = parsed(text, `${box.dataset.pointer}/${option}`);
    else found[option] = field.dataset.numbers === undefined ? text : number(text);
  }
  return found;
}

/** The number that a text is, or the text. */
export function number(text) {
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? text : value;
}

/** An object that has what a schema requires, to be changed by hand. */
export function example(schema, known = {}) {
  const guesses = { vocab_size: 30522, pad_token_id: 0, hidden_size: 128, dim: 128, n_embd: 128, num_hidden_layers: 2, n_layers: 2, n_layer: 2, num_layers: 2, max_position_embeddings: 512, n_positions: 512, num_classes: 2, num_labels: 2 };
  return Object.fromEntries((schema.required ?? Object.keys(schema.properties)).map((name) => [name, known[name] ?? guesses[name] ?? schema.properties[name].default ?? {}]));
}

function kindOf(schema) {
  const nullable = Boolean(schema.anyOf?.some((one) => one.type === "null"));
  const told = nullable ? schema.anyOf.find((one) => one.type !== "null") : schema;
  const simple = (one) => one?.type === "integer" || one?.type === "number";
  if (told.enum) return { kind: "choice", choices: told.enum, nullable };
  if (told.type === "boolean") return { kind: "boolean", nullable };
  if (simple(told)) return { kind: "number", nullable, told };
  if (told.type === "array" && simple(told.items)) return { kind: "list", nullable, told };
  if (told.type === "string") return { kind: "text", nullable };
  return { kind: "json", nullable };
}

/** Not what has one value only or no effect, and no list that must stay empty. */
const usable = (schema) => !("const" in schema) && schema.maxItems !== 0 && !schema.deprecated;

function inputFor({ kind, choices, nullable }, value, id) {
  if (kind === "choice") {
    const options = [...(nullable ? [""] : []), ...choices].map((one) => element("option", { value: one, textContent: one === "" ? "none" : one, selected: one === value }));
    const select = element("select", { id }, ...options);
    if (choices.every((one) => typeof one === "number")) select.dataset.numbers = "";
    return select;
  }
  if (kind === "boolean") return element("input", { type: "checkbox", id, checked: Boolean(value) });
  const text = value === null || value === undefined ? "" : kind === "list" ? value.join(", ") : kind === "json" ? JSON.stringify(value) : String(value);
  const input = element(kind === "json" ? "textarea" : "input", { id, value: text, autocomplete: "off", ...(kind === "json" ? { rows: 1, spellcheck: false, placeholder: "JSON" } : {}) });
  if (kind === "number") input.inputMode = "decimal";
  return input;
}

function hintOf(schema, { kind, nullable }) {
  const extra = [kind === "list" ? "With commas between." : "", nullable ? "May be left empty." : ""];
  return [(schema.description ?? "").replaceAll("`", ""), ...extra].filter(Boolean).join(" ");
}

function parsed(text, pointer) {
  try {
    return JSON.parse(text);
  } catch (error) {
    const detail = `This is not JSON: ${error.message}`;
    throw new Problem({ detail, errors: [{ pointer, detail }] });
  }
}
