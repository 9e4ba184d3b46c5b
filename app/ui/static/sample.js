// One sample: decide by key, and go on to the next.
import { complain, decide, decision, KEYS, verdict } from "./decide.js";

const form = document.querySelector("[data-decide]");
const names = new Map([...(form.elements.label?.options ?? [])].map((one) => [one.value, one.text]));
const told = form.querySelector("[data-verdict]");

const act = async (action, label = "predicted") => {
  const number = Number(label === "predicted" ? form.dataset.predicted : label);
  try {
    await decide(form.dataset.decide, [decision(form.dataset.index, action, number)]);
    told.classList.remove("amiss");
    told.textContent = verdict(action, names.get(String(number)) ?? number);
  } catch (error) {
    complain(told, error);
  }
};
form.addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter.value, form.elements.label?.value);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const go = (rel) => document.querySelector(`.steps [rel=${rel}]`)?.click();
  const key = event.key.toLowerCase();
  if (key === "arrowleft" || key === "p") go("prev");
  else if (key === "arrowright" || key === "n") go("next");
  else if (KEYS[key] && (KEYS[key] !== "relabel" || names.size)) act(KEYS[key]);
  else return;
  event.preventDefault();
});
