// The gallery's comforts: everything works without them, by forms and links.
import { complain, decide, decision, KEYS, verdict } from "./decide.js";
import { threshold } from "./threshold.js";

const filters = document.querySelector("[data-filters]");
filters.addEventListener("change", ({ target }) => {
  if (target.matches("select, [type=checkbox]")) filters.requestSubmit();
});
filters.addEventListener("submit", () => {
  for (const field of filters.elements) if (field.name && field.value === "") field.disabled = true;
});
addEventListener("pageshow", () => { for (const field of filters.elements) field.disabled = false; });
threshold(filters.querySelector("[data-threshold]"), filters);

const form = document.querySelector("[data-gallery]");
if (form) {
  const cards = [...form.querySelectorAll("[data-index]")];
  const media = cards.map((card) => card.querySelector(".media"));
  const ticks = cards.map((card) => card.querySelector("[name=sample_index]"));
  const all = form.querySelector("[data-all]");
  const told = form.querySelector("[data-ticked]");
  const names = new Map([...(form.elements.label?.options ?? [])].map((one) => [one.value, one.text]));

  const ticked = () => cards.filter((_, at) => ticks[at].checked);
  const tell = () => {
    told.classList.remove("amiss");
    const count = ticked().length;
    told.textContent = count ? `${count} ticked` : "";
    all.checked = count === cards.length;
    all.indeterminate = count > 0 && count < cards.length;
  };

  const act = async (chosen, action, label = "predicted") => {
    if (!chosen.length) { told.textContent = "Tick some samples first."; return; }
    const number = (card) => Number(label === "predicted" ? card.dataset.predicted : label);
    const decisions = chosen.map((card) => decision(card.dataset.index, action, number(card)));
    try {
      await decide(form.dataset.decisions, decisions);
    } catch (error) {
      complain(told, error);
      return;
    }
    for (const card of chosen) {
      card.classList.remove("keep", "remove", "relabel");
      if (action !== "undo") card.classList.add(action);
      const name = names.get(String(number(card))) ?? number(card);
      card.querySelector("[data-verdict]").textContent = verdict(action, name);
      card.querySelector("[name=sample_index]").checked = false;
    }
    tell();
    const done = { keep: "kept", remove: "to remove", relabel: "to relabel", undo: "undecided" }[action];
    told.textContent = `${chosen.length} ${done}`;
  };

  all.addEventListener("change", () => {
    for (const tick of ticks) tick.checked = all.checked;
    tell();
  });
  form.addEventListener("change", tell);
  form.addEventListener("submit", (event) => {
    if (!event.submitter?.name) return;
    event.preventDefault();
    act(ticked(), event.submitter.value, form.elements.label?.value);
  });

  // One stop for Tab among the cards; arrows move between them.
  let here = 0;
  const focus = (at) => {
    if (at < 0 || at >= cards.length) return;
    media[here].tabIndex = -1;
    here = at;
    media[here].tabIndex = 0;
    media[here].focus();
  };
  media.forEach((link, at) => {
    link.tabIndex = at ? -1 : 0;
    link.addEventListener("focus", () => { if (here !== at) focus(at); });
  });
  const across = () => {
    const top = cards[0].offsetTop;
    const second = cards.findIndex((card) => card.offsetTop > top);
    return second < 0 ? cards.length : second;
  };
  const help = document.querySelector("[data-keys-help]");
  const button = form.querySelector("[data-keys]");
  button.hidden = false;
  button.addEventListener("click", () => help.showModal());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
    const go = (rel) => document.querySelector(`.pager [rel=${rel}]`)?.click();
    const page = { n: () => go("next"), p: () => go("prev"), "?": () => help.showModal() }[event.key.toLowerCase()];
    const card = event.target.closest("[data-index]");
    const at = card ? cards.indexOf(card) : -1;
    const action = KEYS[event.key.toLowerCase()];
    const moves = at < 0 ? {} : { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across(), ArrowDown: across() };
    if (page) page();
    else if (event.key in moves) focus(at + moves[event.key]);
    else if (at >= 0 && event.key === " " && event.target.matches(".media")) { ticks[at].click(); }
    else if (action && (action !== "relabel" || names.size)) {
      const chosen = ticked();
      act(chosen.length ? chosen : at >= 0 ? [card] : [], action);
    } else return;
    event.preventDefault();
  });
  tell();
}
