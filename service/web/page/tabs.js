/** Tabs: one panel of several is shown. */

import { h, refill } from "./dom.js";

/** @typedef {{ name: string, title: string, draw: (host: HTMLElement, signal: AbortSignal) => any }} Tab */

/**
 * @param {string} label @param {Tab[]} tabs @param {string | null} first @param {(name: string) => void} chosen @param {AbortSignal} signal
 */
export function tabs(label, tabs, first, chosen, signal) {
  const panel = h("div", { role: "tabpanel", tabindex: "0", class: "tabpanel" });
  let leaving = new AbortController();
  signal.addEventListener("abort", () => leaving.abort());
  const buttons = tabs.map((tab) => h("button", { role: "tab", id: `tab-${tab.name}`, click: () => { open(tab); chosen(tab.name); } }, tab.title));
  const step = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const at = buttons.indexOf(document.activeElement);
    const next = buttons[(at + by + buttons.length) % buttons.length];
    next.focus();
    next.click();
  };
  const list = h("div", { role: "tablist", "aria-label": label, keydown: step }, buttons);
  const open = (tab) => {
    leaving.abort();
    leaving = new AbortController();
    tabs.forEach(({ name }, place) => {
      buttons[place].setAttribute("aria-selected", String(name === tab.name));
      buttons[place].tabIndex = name === tab.name ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `tab-${tab.name}`);
    refill(panel);
    tab.draw(panel, leaving.signal);
  };
  open(tabs.find(({ name }) => name === first) ?? tabs[0]);
  return h("section", { class: "panel" }, list, panel);
}
