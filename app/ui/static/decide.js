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
  if (answer.status === 401) throw Object.assign(new Error("You are signed out."), { signIn: `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}` });
  const problem = await answer.json().catch(() => ({}));
  throw new Error(problem.detail ?? `The service answered ${answer.status}.`);
}

/** Shows what went wrong, with the way to sign in again where that is what it takes. */
export function complain(place, error) {
  place.textContent = `${error.message} `;
  place.classList.add("amiss");
  if (error.signIn) place.append(Object.assign(document.createElement("a"), { href: error.signIn, textContent: "Sign in again" }));
}

/** What each key decides. */
export const KEYS = { k: "keep", x: "remove", r: "relabel", u: "undo" };

/** One decision as the service takes it; "undo" takes it back. */
export const decision = (index, action, label) => ({
  sample_index: Number(index),
  action: action === "undo" ? null : action,
  ...(action === "relabel" ? { label } : {}),
});

/** How a decision reads on a card. */
export const verdict = (action, name) =>
  ({ keep: "✓ keep", remove: "✕ remove", relabel: `⇄ ${name}` })[action] ?? "";
