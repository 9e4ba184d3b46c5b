// Shows a page anew once the service has read the files that it tells of.
const address = document.querySelector("[data-waiting]").dataset.waiting;
const reading = ({ status, checkpoints = [], files = [], batch_order: order = null }) =>
  [status, ...[...checkpoints, ...files, order].map((one) => one?.status)].includes("validating");
const look = async () => {
  try {
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (answer.status === 401 || answer.status === 404 || (answer.ok && !reading(await answer.json()))) {
      location.reload();
      return;
    }
  } catch { /* the service is away for a moment */ }
  setTimeout(look, 1000);
};
setTimeout(look, 500);
