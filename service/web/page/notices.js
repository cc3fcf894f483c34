/** Short messages at the edge of the page, and questions that want an answer first. */

import { h } from "./dom.js";

const SHOWN_MILLISECONDS = 6000;

/** @param {string} text @param {"plain" | "bad"} [kind] */
export function notice(text, kind = "plain") {
  const shown = h("p", { class: `notice ${kind}` }, text);
  document.getElementById("notices").append(shown);
  setTimeout(() => shown.remove(), SHOWN_MILLISECONDS);
}

/** One that stays until it is removed. @param {string} text */
export function lasting(text) {
  const shown = h("p", { class: "notice bad" }, text);
  document.getElementById("notices").append(shown);
  return shown;
}

/** Tells of an error, unless it is one of leaving a view. @param {any} error */
export function tell(error) {
  if (error?.name !== "AbortError" && error?.status !== 401) notice(error?.message ?? String(error), "bad");
}

/**
 * Asks a question; true when it was answered with the verb.
 * @param {string} question @param {string} verb
 * @returns {Promise<boolean>}
 */
export function confirmed(question, verb) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": question, close: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      h("form", { method: "dialog" },
        h("p", {}, question),
        h("div", { class: "row end" }, h("button", { value: "no" }, "Leave it"), h("button", { value: "yes", class: "danger" }, verb))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Shows something until it is closed. @param {string} title @param {...any} content */
export function sheet(title, ...content) {
  const dialog = h("dialog", { "aria-label": title, close: () => dialog.remove() },
    h("form", { method: "dialog" }, h("h2", {}, title), content, h("div", { class: "row end" }, h("button", {}, "Close"))));
  document.body.append(dialog);
  dialog.showModal();
}
