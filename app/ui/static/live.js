// Follows what is not finished: one stream for the whole page, since browsers keep few connections to a host.
const reloading = document.querySelector("[data-reload]")?.dataset.reload;
const each = (name, id, change) => {
  for (const found of document.querySelectorAll(`[data-${name}="${id}"]`)) change(found);
};
if (document.querySelector("[data-live]")) {
  const stream = new EventSource("/live");
  stream.addEventListener("job", ({ data }) => {
    const job = JSON.parse(data);
    each("message", job.id, (found) => { if (found.textContent !== job.message) found.textContent = job.message; });
    each("figures", job.id, (found) => { found.textContent = job.figures; });
    each("progress", job.id, (found) => { found.max = job.total || 1; found.value = job.completed; });
    if (job.id === reloading && job.status !== document.querySelector("[data-state]")?.textContent) {
      const begun = ["running", "queued", "cancelling"].includes(job.status);
      if (begun) document.querySelector("[data-state]").textContent = job.status;
      else { stream.close(); location.reload(); }
    }
  });
  stream.addEventListener("changed", () => { if (!reloading) { stream.close(); location.reload(); } });
}
