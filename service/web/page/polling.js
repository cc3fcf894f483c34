/** What is done again and again while a view is shown and somebody can see it. */

import { lasting } from "./notices.js";

/**
 * Does something now and then every so often, never twice at once, until the signal says stop.
 * The action answers false when there is nothing more to come.
 * @param {number} milliseconds @param {() => Promise<any>} action @param {AbortSignal} signal
 */
export async function every(milliseconds, action, signal) {
  let lost = null;
  signal.addEventListener("abort", () => lost?.remove());
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        if ((await action()) === false) return;
        lost?.remove();
        lost = null;
      } catch (error) {
        if (!signal.aborted && error.status !== 401) lost ??= lasting(`${error.message}: what is shown may be old`);
      }
    }
    await pause(milliseconds, signal);
  }
}

/** @param {number} milliseconds @param {AbortSignal} signal */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(undefined); }, { once: true });
  });
}

/** The action, once nothing has asked for it for a moment. @param {number} milliseconds @param {(...given: any[]) => any} action */
export function settled(milliseconds, action) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), milliseconds);
  };
}

/** The action at most once in so many milliseconds, the last call never left out. @param {number} milliseconds @param {() => any} action */
export function throttled(milliseconds, action) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => { timer = 0; action(); }, milliseconds);
  };
}
