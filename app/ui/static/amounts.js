// Whoever types an amount means it: its choice is made with the first character.
for (const box of document.querySelectorAll(".amounts")) {
  box.addEventListener("input", ({ target }) => {
    const choice = target.previousElementSibling;
    if (choice?.type === "radio") choice.checked = true;
  });
}
