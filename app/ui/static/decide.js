// Writes decisions about samples, and tells how they read.
const token = () => document.querySelector("meta[name=csrf-token]").content;

/** Sends decisions, [{sample_index, action, label}] with action null to take one back; throws what went wrong in words. */
export async function decide(address, decisions) {
  const answer = await fetch(address, {
    method: "PUT",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": token() },
    body: JSON.stringify({ decisions }),
  });
  if (answer.ok) return;
  const problem = await answer.json().catch(() => ({}));
  throw new Error(problem.detail ?? `The service answered ${answer.status}.`);
}

/** How a decision reads on a card. */
export const verdict = (action, name) =>
  ({ keep: "✓ keep", remove: "✕ remove", relabel: `⇄ ${name}` })[action] ?? "";
