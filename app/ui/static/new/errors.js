// Problems where they belong: each at the field that it names, the first of them in focus.

const FOCUSABLE = "input:not([type=hidden], [hidden]), select, textarea, button";
let numbered = 0;

/** Takes all messages away below `box`. */
export function clear(box) {
  for (const told of box.querySelectorAll("[data-error]")) { told.hidden = true; told.textContent = ""; }
  for (const field of box.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
  for (const one of [box, ...box.querySelectorAll(".wrong")]) one.classList?.remove("wrong");
  const whole = box.querySelector("[data-problem]");
  if (whole) whole.hidden = true;
}

/**
 * Says `words` at `place`, a part of the form. `alert` has them read out, for what the focus does not go to.
 * Returns what can be focused there.
 */
export function say(place, words, { alert = false } = {}) {
  const told = place.querySelector("[data-error]") ?? place.appendChild(element("p", { className: "error", dataset: { error: "" } }));
  told.id ||= `error-${++numbered}`;
  if (alert) told.setAttribute("role", "alert");
  told.textContent = told.hidden || !told.textContent ? words : `${told.textContent} ${words}`;
  told.hidden = false;
  if (place.matches("fieldset")) place.classList.add("wrong");
  for (let box = place.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  const fields = [...place.querySelectorAll(FOCUSABLE)].filter((one) => !one.closest("[hidden]"));
  const field = fields.find((one) => one.matches("[data-select]")) ?? fields[0];
  field?.setAttribute("aria-invalid", "true");
  field?.setAttribute("aria-errormessage", told.id);
  return field ?? told;
}

/** Shows a Problem within `form`: at the fields that it names, and at the top what has no field. */
export function show(form, problem) {
  const whole = form.querySelector("[data-problem]");
  const places = new Map();
  const rest = [];
  for (const { pointer, detail } of problem.errors?.length ? problem.errors : [{ pointer: "", detail: problem.message }]) {
    const place = find(form, pointer);
    if (place) places.set(place, [...(places.get(place) ?? []), place.dataset.pointer === pointer ? detail : `${name(pointer, place)}${detail}`]);
    else rest.push(pointer ? `${pointer}: ${detail}` : detail);
  }
  let first = null;
  for (const [place, said] of places) {
    const field = say(place, said.join(" "));
    if (!first || field.compareDocumentPosition(first) & Node.DOCUMENT_POSITION_FOLLOWING) first = field;
  }
  if (rest.length) {
    whole.textContent = rest.join(" ");
    whole.hidden = false;
    first ??= whole;
  }
  first?.focus();
  first?.scrollIntoView({ block: "center" });
}

/** The most particular place that a pointer lies in, among those that are shown. */
function find(form, pointer) {
  const shown = [...form.querySelectorAll("[data-pointer]")].filter((one) => !one.closest("[hidden]"));
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    const place = shown.findLast((one) => one.dataset.pointer === at);
    if (place) return place;
  }
  return null;
}

const name = (pointer, place) => `${pointer.slice(place.dataset.pointer.length + 1).replaceAll("/", " ").replaceAll("_", " ")}: `;

/** An element with properties, `dataset` among them, and children. */
export function element(tag, { dataset = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}
