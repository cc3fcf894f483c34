/** Light or dark: as the system says, or as was chosen here. */

const KEY = "trainbox.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Applies what was chosen and goes along with the system. */
export function start() {
  dark.addEventListener("change", apply);
  apply();
}

export function toggle() {
  localStorage.setItem(KEY, current() === "dark" ? "light" : "dark");
  apply();
}

/** @returns {"light" | "dark"} */
function current() {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "light" || chosen === "dark") return chosen;
  return dark.matches ? "dark" : "light";
}

function apply() {
  document.documentElement.dataset.theme = current();
  dispatchEvent(new Event("theme"));
}
