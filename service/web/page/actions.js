/** What may be done to a job, as buttons. */

import { below, freshKey, send } from "../api/client.js";
import * as session from "../api/session.js";
import { h } from "./dom.js";
import { confirmed, notice, tell } from "./notices.js";
import { isOver } from "./parts.js";
import { go, href } from "./route.js";

/** @typedef {{ verb: string, when: (job: any) => boolean, act: (job: any) => Promise<any>, bad?: boolean }} Action */

const path = (job, ...rest) => below("/v1/jobs", job.id, ...rest);

/** @type {Action[]} */
const ACTIONS = [
  { verb: "Pause", when: ({ status, status_reason: reason }) => status === "queued" || (status === "running" && reason?.code !== "cancelling" && reason?.code !== "pausing"), act: (job) => send(path(job, "pause")) },
  { verb: "Resume", when: ({ status }) => status === "paused", act: (job) => send(path(job, "resume")) },
  { verb: "Cancel", bad: true, when: ({ status, status_reason: reason }) => !isOver(status) && reason?.code !== "cancelling", act: cancel },
  { verb: "Retry", when: ({ status }) => status === "failed" || status === "cancelled", act: retry },
  { verb: "Delete", bad: true, when: ({ status }) => isOver(status), act: remove },
];

async function cancel(job) {
  if (await confirmed(`Cancel “${job.name}”? What it has learned so far stays, but it cannot go on.`, "Cancel the job")) await send(path(job, "cancel"));
}

async function retry(job) {
  const made = await send(path(job, "retry"), { headers: { "Idempotency-Key": freshKey() } });
  notice("A new job with the same spec waits.");
  go(`run/${made.id}`);
}

async function remove(job) {
  if (!(await confirmed(`Delete “${job.name}” with its curves, logs and checkpoints? This cannot be undone.`, "Delete the job"))) return;
  await send(path(job), { method: "DELETE" });
  go("runs");
}

/**
 * Buttons for what the status allows and whoever is signed in may do.
 * @param {any} job @param {() => any} done called after each act @param {string[]} [verbs] only these
 */
export function buttons(job, done, verbs) {
  if (!session.may(job.user)) return [];
  return ACTIONS.filter(({ verb, when }) => when(job) && (!verbs || verbs.includes(verb))).map(({ verb, act, bad }) =>
    h("button", { class: bad ? "danger" : null, "aria-label": `${verb} ${job.name}`, click: (event) => during(event.currentTarget, () => act(job).then(done)) }, verb));
}

/** A button for what may be done to a run that has no job. @param {any} run */
export function runButtons(run) {
  if (!session.may(run.user) || !isOver(run.status)) return [];
  const act = async () => {
    if (!(await confirmed(`Delete “${run.name}” with its curves? This cannot be undone.`, "Delete the run"))) return;
    await send(below("/v1/runs", run.id), { method: "DELETE" });
    go("runs");
  };
  return [h("button", { class: "danger", "aria-label": `Delete ${run.name}`, click: (event) => during(event.currentTarget, act) }, "Delete")];
}

/** A link to the form, filled with the job's spec. @param {any} job */
export function cloneLink(job) {
  return session.maySubmit() && h("a", { class: "button", href: href("submit", { clone: job.id }) }, "Clone with changes");
}

/** A field for the priority of a job that waits. @param {any} job @param {() => any} done */
export function priority(job, done) {
  if (!session.may(job.user) || job.status !== "queued") return String(job.priority);
  const change = (event) => {
    event.target.blur(); // what is being typed into is not drawn anew
    send(path(job), { method: "PATCH", body: { priority: Number(event.target.value) } }).then(done).catch(tell);
  };
  return h("input", { type: "number", class: "narrow", min: -1000, max: 1000, value: job.priority, "aria-label": `Priority of ${job.name}`, change });
}

/** @param {any} button @param {() => Promise<any>} act */
async function during(button, act) {
  button.disabled = true;
  try {
    await act();
  } catch (error) {
    tell(error);
  } finally {
    button.disabled = false;
  }
}
