// The histogram's handle: drag it (or use the arrow keys) to set the least value; the count follows.
export function threshold(box, form) {
  const { low, high, bend } = Object.fromEntries(
    ["low", "high", "bend"].map((name) => [name, Number(box.dataset[name])]),
  );
  const handle = box.querySelector("[data-handle]");
  const says = form.querySelector("[data-says]");
  const least = form.elements.min;
  const bars = [...box.querySelectorAll(".bar")];
  const [start, end] = bend ? [Math.asinh(low / bend), Math.asinh(high / bend)] : [low, high];
  const value = (place) => {
    const at = start + place * (end - start);
    return bend ? bend * Math.sinh(at) : at;
  };
  const place = (number) => ((bend ? Math.asinh(number / bend) : number) - start) / (end - start);
  const width = bars.length && bars[0].ownerSVGElement.viewBox.baseVal.width;
  const mark = (at) => {
    box.classList.toggle("chosen", at > 0);
    for (const bar of bars) bar.classList.toggle("over", (bar.x.baseVal.value + 5) / width >= at);
  };
  let asked = 0;
  const count = async () => {
    const mine = ++asked;
    await new Promise((done) => setTimeout(done, 60));
    if (mine !== asked) return;
    const query = new URLSearchParams(new FormData(form));
    const answer = await fetch(`${box.dataset.count}?${query}`, { headers: { Accept: "application/json" } });
    if (mine !== asked || !answer.ok) return;
    const found = await answer.json();
    says.textContent = `${found.count.toLocaleString("en")} of ${found.of.toLocaleString("en")} samples.`;
  };
  const moved = () => {
    const at = Number(handle.value) / 1000;
    least.value = at > 0 ? Number(value(at).toPrecision(4)) : "";
    handle.setAttribute("aria-valuetext", least.value === "" ? "no threshold" : `at least ${least.value}`);
    mark(at);
    count();
  };
  const typed = () => {
    const number = least.value.trim() === "" ? Number.NaN : Number(least.value);
    const at = Number.isNaN(number) ? 0 : Math.min(1, Math.max(0, place(number)));
    handle.value = Math.round(at * 1000);
    handle.setAttribute("aria-valuetext", least.value === "" ? "no threshold" : `at least ${least.value}`);
    mark(at);
  };
  handle.hidden = false;
  form.querySelector("[data-handle-hint]").hidden = false;
  handle.addEventListener("input", moved);
  handle.addEventListener("change", () => form.requestSubmit());
  least.addEventListener("input", () => { typed(); count(); });
  typed();
}
