// Light, dark, or as the system has it: applied before the first paint, so that nothing flashes.
(() => {
  const names = ["system", "light", "dark"];
  const kept = () => {
    try { return localStorage.getItem("theme") ?? "system"; } catch { return "system"; }
  };
  const apply = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
  };
  apply(kept());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-theme-switch]");
    if (!button) return;
    const tell = () => {
      const name = kept();
      button.setAttribute("aria-label", name === "system" ? "Colours: as the system has them" : `Colours: ${name}`);
      button.title = button.getAttribute("aria-label");
      button.textContent = { system: "◐", light: "○", dark: "●" }[name];
    };
    button.hidden = false;
    tell();
    button.addEventListener("click", () => {
      const next = names[(names.indexOf(kept()) + 1) % names.length];
      try { localStorage.setItem("theme", next); } catch { /* then it holds for this page alone */ }
      apply(next);
      tell();
    });
  });
})();
