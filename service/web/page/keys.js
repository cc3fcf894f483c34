/** Keys that work wherever nothing is being typed. */

import { definitions } from "./dom.js";
import { sheet } from "./notices.js";
import { go } from "./route.js";

const GOTO = { b: "box", r: "runs", s: "studies", d: "datasets", n: "submit" };

/** What the view that is shown does with a key. @type {Map<string, () => void>} */
const own = new Map();

/** Lets a view answer to a key until it is left. @param {string} key @param {() => void} act @param {AbortSignal} signal */
export function on(key, act, signal) {
  own.set(key, act);
  signal.addEventListener("abort", () => own.get(key) === act && own.delete(key));
}

export function start() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const act = own.get(event.key) ?? general(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  });
}

/** @param {string} key */
function general(key) {
  if (key === "?") return help;
  if (key === "/") return () => go("runs", { focus: "search" });
  return GOTO[key] && (() => go(GOTO[key]));
}

/** @param {any} element */
function isTyping(element) {
  return element.isContentEditable || ["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName);
}

export function help() {
  sheet("Keys", definitions([
    ["/", "search among the runs"],
    ["c", "compare the runs that are selected"],
    ["b r s d n", "box, runs, studies, data, a new job"],
    ["+ − ← → 0", "in a chart that has the focus: zoom, move, all of it"],
    ["drag, Ctrl + wheel", "in a chart: zoom; a double click shows all of it"],
    ["?", "this help"],
  ], "keys"));
}
