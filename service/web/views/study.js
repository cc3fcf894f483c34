/** One study: how far it is, its pictures, and its jobs. */

import { below, find, get, send } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import * as session from "../api/session.js";
import { definitions, h, refill, table } from "../page/dom.js";
import { grouped, moment, value } from "../page/format.js";
import { confirmed, tell } from "../page/notices.js";
import { badge, isOver, panel, runLink } from "../page/parts.js";
import { every } from "../page/polling.js";
import { href } from "../page/route.js";
import { ofReport, ofRuns } from "../study/pictures.js";
import { keyed } from "./compare.js";

const ROUND = 2000; // milliseconds
const MOST_RUNS = 1000;

/** @type {import("../main.js").View} */
export async function show(root, route, signal) {
  const path = below("/v1/studies", route.part ?? "");
  const parts = { head: h("div"), pictures: h("div", { class: "stack" }), jobs: h("div") };
  refill(root, parts.head, parts.pictures, parts.jobs);
  const shown = { now: "" };
  const look = async () => {
    const study = await get(path, {}, signal);
    const runs = tells(study.report) ? [] : await runsOf(study.id, signal);
    const now = JSON.stringify([study, runs]);
    if (now !== shown.now && !signal.aborted) draw(parts, study, runs, () => look().catch(tell));
    shown.now = now;
    return !isOver(study.status);
  };
  if (await look()) every(ROUND, look, signal);
}

/** A report so far may have no row yet: the range tests of batch sizes come first. @param {any} report */
function tells(report) {
  return report !== null && (!report.partial || report.rows?.length !== 0);
}

async function runsOf(study, signal) {
  const runs = [];
  for (let after = null, more = true; more && runs.length < MOST_RUNS;) {
    const found = await find("/v1/runs", { study, limit: 200, after }, signal).catch(() => null);
    if (!found) break;
    runs.push(...found.data);
    [after, more] = [found.next_after, found.has_more];
  }
  return runs;
}

function draw(parts, study, runs, done) {
  const { progress } = study;
  const path = below("/v1/studies", study.id);
  const cancel = async () => {
    if (await confirmed(`Cancel the study “${study.name}” with all its jobs?`, "Cancel the study")) await send(`${path}/cancel`).then(done).catch(tell);
  };
  refill(parts.head,
    h("div", { class: "row" }, h("h1", {}, study.name ?? study.id), badge(study.status, study.status_reason?.message), h("span", { class: "muted" }, study.kind.replaceAll("_", " ")), h("span", { class: "space" }),
      session.may(study.user) && !isOver(study.status) ? h("button", { class: "danger", click: cancel }, "Cancel") : null,
      h("a", { class: "button", href: href("runs", { study: study.id }) }, "Its runs"),
      h("a", { class: "button", href: href("compare", { study: study.id }) }, "Compare"), curlButton(() => [{ path }])),
    definitions([["id", h("code", {}, study.id)], ["user", study.user], ["project", study.project], ["created", moment(study.created_at)], ["reason", study.status_reason?.message ?? "–"]], "facts line"),
    progress?.total_jobs ? h("span", { class: "progress" }, h("progress", { max: progress.total_jobs, value: progress.finished ?? 0, "aria-label": "jobs that are over" }),
      h("span", { class: "muted" }, `${grouped(progress.finished ?? 0)} of ${grouped(progress.total_jobs)} jobs are over${isOver(study.status) ? "" : `, ${progress.running ?? 0} run`}`)) : null);
  refill(parts.pictures, tells(study.report) ? ofReport(study) : ofRuns(study, runs));
  refill(parts.jobs, panel("Jobs", table("Jobs", ["job", "status", "setting", "seed", ""], (study.jobs ?? []).map((job) => [
    job.id ? runLink(job.id, job.id) : "–", job.status ? badge(job.status) : "–", keyed(job.parameters ?? null), value(job.seed), job.error ?? ""]))));
}
