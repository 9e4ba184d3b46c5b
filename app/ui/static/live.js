// Follows what is not finished: one stream for the whole page, since browsers keep few connections to a host.
const section = () => document.querySelector("[data-live]");
const own = section()?.dataset.reload;
const statuses = new Map();
const each = (name, id, change) => {
  for (const found of document.querySelectorAll(`[data-${name}="${id}"]`)) change(found);
};

/** The live part of the page anew, without moving the rest of it. */
async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return location.reload();
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-live]");
  if (!fresh) return location.reload();
  section().replaceWith(fresh);
}

if (section()) {
  const what = section().dataset.live || "jobs"; // or "selections"
  const shown = [...document.querySelectorAll("[data-progress]")].map((found) => found.dataset.progress);
  const state = section().querySelector("[data-state]") ?? document.querySelector("[data-state]");
  const over = (status) => !["running", "queued", "cancelling"].includes(status);
  const stream = new EventSource(`/live?ids=${shown.join(",")}`);
  stream.addEventListener("job", ({ data }) => {
    const job = JSON.parse(data);
    const before = statuses.get(job.id);
    statuses.set(job.id, job.status);
    each("message", job.id, (found) => { if (found.textContent !== job.message) found.textContent = job.message; });
    each("figures", job.id, (found) => { found.textContent = job.figures; });
    each("progress", job.id, (found) => { found.max = job.total || 1; found.value = job.completed; });
    if (own ? job.id === own && job.status !== state.textContent
      : before === undefined ? shown.includes(job.id) && over(job.status) : before !== job.status) {
      if (own) location.reload();
      else refresh();
    }
  });
  stream.addEventListener("changed", ({ data }) => { if (!own && JSON.parse(data) === what) refresh(); });
}
