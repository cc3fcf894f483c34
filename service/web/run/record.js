/** What a run leaves beside its curves: plan, spec, events, checkpoints, logs. */

import { ask, below, download, find, get } from "../api/client.js";
import { texts } from "../api/stream.js";
import { definitions, h, redraw, refill, table } from "../page/dom.js";
import { ago, bytes, duration, moment, number, value } from "../page/format.js";
import { tell } from "../page/notices.js";
import { isOver, panel, warnings } from "../page/parts.js";
import { pause } from "../page/polling.js";

const PLAN_WORDS = { estimated_seconds: duration, estimated_start_at: moment };
const AGAIN = 2000; // milliseconds after a connection broke
const LONGEST_LOG = 400_000; // characters kept on the page
const SUMMARIES = ["last", "best", "best_step", "min", "max", "count"];

/** @param {HTMLElement} host @param {any} job */
export function drawSpec(host, job) {
  refill(host,
    h("div", { class: "columns-2" },
      panel("Plan", plan(job.plan), warnings(job.warnings)),
      panel("Spec", h("pre", { tabindex: "0" }, JSON.stringify(job.spec, null, 2)))));
}

/** @param {any} plan */
export function plan(plan) {
  return definitions(Object.entries(plan).filter(([, each]) => each !== null).map(([name, each]) => [name.replaceAll("_", " "), (PLAN_WORDS[name] ?? value)(each)]));
}

/** @param {HTMLElement} host @param {any} run */
export function drawParameters(host, run) {
  redraw(host, h("div", { class: "columns-2" },
    panel("Parameters", !Object.keys(run.parameters).length && h("p", { class: "muted" }, "None were told."), definitions(Object.entries(run.parameters).map(([name, each]) => [h("span", { title: name }, name.replace(/^hyperparameters\./, "")), value(each)]))),
    panel("Metrics", table("Metrics", ["metric", ...SUMMARIES], Object.entries(run.metrics).map(([name, told]) => [name, ...SUMMARIES.map((each) => number(told[each]))])),
      Object.keys(run.tags).length ? [h("h2", {}, "Tags"), definitions(Object.entries(run.tags))] : null)));
}

/** @param {HTMLElement} host @param {string} id @param {AbortSignal} signal */
export async function drawEvents(host, id, signal) {
  const rows = [];
  for (let after = null, more = true; more && rows.length < 1000;) {
    const found = await find(below("/v1/jobs", id, "events"), { limit: 200, after }, signal);
    if (!found) break;
    rows.push(...found.data);
    [after, more] = [found.next_after, found.has_more];
  }
  if (signal.aborted) return;
  redraw(host, rows.length ? table("Events", ["when", "what", ""], rows.map(({ at, code, message }) => [h("span", { title: at }, moment(at)), h("code", {}, code), message])) : h("p", { class: "muted" }, "Nothing has happened."));
}

/** @param {HTMLElement} host @param {string} id @param {AbortSignal} signal */
export async function drawCheckpoints(host, id, signal) {
  const found = await find(below("/v1/jobs", id, "checkpoints"), { limit: 200 }, signal);
  if (signal.aborted) return;
  if (!found?.data.length) {
    redraw(host, h("p", { class: "muted" }, "No checkpoint is kept."));
    return;
  }
  const save = (step) => () => download(below("/v1/jobs", id, "checkpoints", String(step), "weights"), `${id}-step-${step}.safetensors`).catch(tell);
  redraw(host, table("Checkpoints", ["step", "epoch", "size", "metrics", "made", "sha256", ""], found.data.map((each) => [
    [number(each.step), each.is_best ? h("b", {}, " best") : null], number(each.epoch), bytes(each.bytes),
    Object.entries(each.metrics).map(([name, told]) => `${name} ${number(told)}`).join(", "), ago(each.created_at), h("code", { title: each.sha256 }, each.sha256.slice(0, 12)),
    h("button", { click: save(each.step), "aria-label": `Download the weights of step ${each.step}` }, "Download"),
  ])));
}

/** The log as it is written, until the job ends. A broken connection begins it anew: it may go on in another attempt. @param {HTMLElement} host @param {string} id @param {AbortSignal} signal */
export async function drawLogs(host, id, signal) {
  const log = h("pre", { class: "log", tabindex: "0", "aria-label": "Log" });
  const stay = h("input", { type: "checkbox", checked: true });
  refill(host, h("label", { class: "check" }, stay, " keep to the end"), log);
  const read = async () => {
    const answer = await ask(below("/v1/jobs", id, "logs"), { query: { follow: true }, signal });
    refill(log);
    for await (const text of texts(answer)) {
      log.append(text);
      while (log.childNodes.length > 1 && log.textContent.length > LONGEST_LOG) log.firstChild.remove();
      if (stay.checked) log.scrollTop = log.scrollHeight;
    }
    return isOver((await get(below("/v1/jobs", id), {}, signal)).status); // a service that stops ends the stream too
  };
  for (let ended = false; !ended && !signal.aborted;) {
    try {
      ended = await read();
    } catch (error) {
      if (error.status && !signal.aborted) {
        refill(log, error.status === 404 ? "There is no log." : error.message);
        return;
      }
    }
    if (!ended) await pause(AGAIN, signal);
  }
  if (!signal.aborted && !log.textContent) log.append("Nothing was printed.");
}
