// A point of the scatter leads to its sample; without a pointer the gallery does, in any order.
document.querySelector("[data-scatter]")?.addEventListener("click", ({ target, currentTarget }) => {
  const point = target.closest("[data-sample]");
  if (point) location.assign(currentTarget.dataset.scatter + point.dataset.sample);
});
