/** Small parts that several views show: a status, a progress bar, a link to a run, warnings. */

import { h } from "./dom.js";
import { duration, grouped } from "./format.js";
import { href } from "./route.js";

const SIGNS = { queued: "○", running: "▶", paused: "‖", succeeded: "✓", failed: "✗", cancelled: "⊘" };

/** @param {string} status @param {string} [title] */
export function badge(status, title) {
  return h("span", { class: `badge ${status}`, title: title ?? null }, h("span", { "aria-hidden": "true" }, SIGNS[status] ?? "·"), ` ${status}`);
}

/** @param {string} id @param {string} name */
export function runLink(id, name) {
  return h("a", { href: href(`run/${id}`), title: name }, name || id);
}

/** @param {any} job */
export function progress(job) {
  const { step, total_steps: total, eta_seconds: left } = job.progress ?? {};
  if (!total) return h("span", { class: "muted" }, "–");
  return h("span", { class: "progress" },
    h("progress", { max: total, value: step, "aria-label": `step ${step} of ${total}` }),
    h("span", { class: "muted" }, `${grouped(step)} / ${grouped(total)}${left === null ? "" : `, ${duration(left)} left`}`));
}

/** Advice or findings. @param {{ code?: string, param?: string, message: string }[]} warnings */
export function warnings(warnings) {
  if (!warnings?.length) return null;
  return h("ul", { class: "warnings" }, warnings.map(({ code, param, message }) =>
    h("li", { title: code ?? null }, param ? h("code", {}, param) : null, param ? " " : null, message)));
}

/** What is over will not change. @param {string} status */
export function isOver(status) {
  return ["succeeded", "failed", "cancelled"].includes(status);
}

/** A panel with a heading. @param {string} title @param {...any} content */
export function panel(title, ...content) {
  return h("section", { class: "panel" }, h("h2", {}, title), content);
}
