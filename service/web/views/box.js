/** The box: what it has, who uses it, what runs and what waits. */

import { below, find, get } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import * as session from "../api/session.js";
import { follow } from "../api/stream.js";
import { sparkline } from "../charts/sparkline.js";
import { buttons, priority } from "../page/actions.js";
import { definitions, h, isTypedInto, redraw, refill, table } from "../page/dom.js";
import { ago, bytes, duration, grouped, number } from "../page/format.js";
import { badge, panel, progress, runLink } from "../page/parts.js";
import { every, throttled } from "../page/polling.js";
import { href } from "../page/route.js";

const ROUND = 2000; // milliseconds
const STREAMS = 2; // running jobs that are followed live; the others are asked for in every round
const EXPLAINED = 15; // waiting jobs whose causes are asked for: the first ones
const PAGE = 200;
const MOST_WAITING = 1000; // jobs that are looked through for the first ones
const QUEUE_ROUND = 10_000; // milliseconds after which an unchanged queue is looked at again
const ENDED = ["succeeded", "failed", "cancelled"];
const SHOWN = 8; // of the jobs that ended
const FIRST = "digits"; // a data set that every box has
const POINTS = 60; // of a sparkline

/** @type {import("../main.js").View} */
export function show(root, _route, signal) {
  const part = () => h("div", {}, h("p", { class: "muted" }, "Asking …"));
  const parts = { facts: h("div", {}, unknown()), running: part(), queue: part(), over: part() };
  refill(root,
    h("div", { class: "row" }, h("h1", {}, "Box"), h("span", { class: "space" }), curlButton(calls)),
    parts.facts, panel("Running", parts.running), panel("Queue", parts.queue), panel("Latest", parts.over));
  const board = new Board(parts, signal);
  every(ROUND, () => board.round(), signal);
}

function calls() {
  return [{ path: "/v1/box" }, { path: "/v1/jobs", query: { status: "running" } }, { path: "/v1/jobs", query: { status: "queued" } }];
}

class Board {
  /** @param {Record<string, HTMLElement>} parts @param {AbortSignal} signal */
  constructor(parts, signal) {
    this.parts = parts;
    this.signal = signal;
    /** @type {Map<string, any>} sparklines of the losses by job */
    this.losses = new Map();
    /** @type {Set<string>} */
    this.followed = new Set();
    this.again = throttled(250, () => this.round().catch(() => {}));
    this.changed = () => { this.acted = true; this.again(); };
    this.drawn = { running: "", queue: "", over: "" };
  }

  async round() {
    const [box, running, ended] = await Promise.all([
      get("/v1/box", {}, this.signal),
      this.jobs({ status: "running", limit: 100 }),
      Promise.all(ENDED.map((status) => this.jobs({ status, limit: 4 }))),
    ]);
    const waiting = await this.queue(box);
    await Promise.all(running.map((job) => this.loss(job)));
    if (this.signal.aborted) return;
    refill(this.parts.facts, facts(box));
    this.update("running", running, () => runningTable(running, this.losses, this.changed));
    this.update("queue", waiting, () => queueTable(waiting, box.queue_length, this.changed));
    const over = ended.flat().sort((a, b) => Date.parse(b.finished_at) - Date.parse(a.finished_at)).slice(0, SHOWN);
    this.update("over", over, () => overTable(over));
  }

  /** The first of the queue, asked for when it has changed or a while has passed: a long one is a long answer. */
  async queue({ queue_length: length, running }) {
    const state = JSON.stringify([length, running.map(({ job_id: id }) => id)]);
    if (this.asked?.state === state && !this.acted && Date.now() - this.asked.at < QUEUE_ROUND) return this.asked.waiting;
    this.acted = false;
    const queued = [];
    for (let after = null, more = length > 0; more && queued.length < MOST_WAITING;) {
      const found = await get("/v1/jobs", { status: "queued", limit: PAGE, after }, this.signal);
      queued.push(...found.data);
      [after, more] = [found.next_after, found.has_more];
    }
    this.asked = { state, at: Date.now(), waiting: await this.explained(queued) };
    return this.asked.waiting;
  }

  /** Draws a part when what it shows has changed. */
  update(name, shown, draw) {
    const now = JSON.stringify([shown, name === "running" ? [...this.losses.values()].map(({ count }) => count) : Math.floor(Date.now() / 30_000)]);
    if (now === this.drawn[name]) return;
    if (isTypedInto(this.parts[name])) return;
    this.drawn[name] = now;
    redraw(this.parts[name], draw());
  }

  async jobs(query) {
    return (await get("/v1/jobs", query, this.signal)).data;
  }

  /** In the order in which they are expected to start, each with its causes. */
  async explained(queued) {
    const asked = queued.reverse().sort((a, b) => b.priority - a.priority).slice(0, EXPLAINED); // lists are newest first
    const told = await Promise.all(asked.map((job) => find(below("/v1/jobs", job.id, "explain"), {}, this.signal)));
    const jobs = asked.map((job, place) => ({ job, why: told[place] }));
    return jobs.sort((a, b) => (a.why?.position ?? Infinity) - (b.why?.position ?? Infinity));
  }

  /** Fetches the curve for a sparkline, and follows a few jobs for news. */
  async loss(job) {
    if (this.followed.size < STREAMS && !this.followed.has(job.id)) {
      this.followed.add(job.id);
      follow(below("/v1/jobs", job.id, "events"), () => this.again(), this.signal).finally(() => this.followed.delete(job.id));
    }
    const curve = await find(below("/v1/runs", job.id, "curves"), { metric: "train_loss", points: POINTS }, this.signal);
    if (curve) this.losses.set(job.id, curve);
  }
}

/** The cards before the first answer, in the same room. */
function unknown() {
  return h("div", { class: "cards", "aria-busy": "true" }, ["Slots", "Queue", "Disk"].map((title) => card(title, "…", h("p", { class: "muted" }, "Asking …"))));
}

/** @param {any} box */
function facts(box) {
  const part = box.slots.total ? box.slots.used / box.slots.total : 0;
  return h("div", { class: "cards" },
    card("Slots", `${box.slots.used} of ${box.slots.total}`, box.workers.length ? meter(part, "slots in use") : h("p", { class: "bad" }, "No worker is alive: nothing will start.")),
    card("Queue", `${grouped(box.queue_length)} waiting`, h("p", { class: "muted" }, `${box.running.length} running`)),
    card("Disk", `${bytes(box.disk.free_bytes)} free`, meter(1 - box.disk.free_bytes / box.disk.total_bytes, "disk in use")),
    box.devices.map(device),
    box.out_of_service.length ? card("Out of service", null, box.out_of_service.map((each) => h("p", {}, each))) : null,
    box.shares?.length ? card("Use of the box", null, definitions(box.shares.slice(0, 6).map((share) =>
      [share.user, `${share.running} running, ${share.queued} waiting, ${duration(share.recent_slot_seconds)} lately`]), "small")) : null);
}

function card(title, value, ...rest) {
  return h("section", { class: "card" }, h("h2", {}, title), value && h("p", { class: "big" }, value), rest);
}

function meter(part, label) {
  return h("meter", { value: part, max: 1, "aria-label": `${Math.round(part * 100)} % of ${label}` });
}

/** A GPU with its jobs, those that are about to leave it, and the processes of others on it. */
function device({ index, name, memory_bytes: memory, free, jobs, foreign_processes: foreign, waiting_for: leaving }) {
  return card(`GPU ${index}, ${name}`, bytes(memory), meter(1 - free, `GPU ${index} given to jobs`),
    jobs.length ? h("p", {}, "used by ", jobs.map((id) => [runLink(id, id), " "])) : null,
    leaving.length ? h("p", { class: "muted" }, `not yet left by ${leaving.join(", ")}`) : null,
    foreign.map((each) => h("p", { class: "muted" }, `foreign process ${each.pid}: ${bytes(each.memory_bytes)}`)));
}

function runningTable(jobs, losses, done) {
  if (!jobs.length) return h("p", { class: "muted" }, "Nothing runs.");
  return table("Running jobs", ["Job", "User", "Progress", "Loss", "Started", ""], jobs.map((job) => {
    const curve = losses.get(job.id);
    const last = curve?.points.y.at(-1);
    return [
      runLink(job.id, job.name), job.user, [progress(job), stopping(job)],
      curve?.count ? h("span", { class: "loss" }, sparkline(curve, `train_loss, ${curve.count} points, last ${number(last)}`), number(last)) : "–",
      ago(job.started_at), h("span", { class: "row" }, buttons(job, done, ["Pause", "Cancel"])),
    ];
  }));
}

function stopping({ status_reason: reason }) {
  return ["cancelling", "pausing"].includes(reason?.code) ? h("span", { class: "muted" }, ` ${reason.code}`) : null;
}

function queueTable(waiting, length, done) {
  if (!waiting.length) return h("p", { class: "muted" }, "Nothing waits.");
  const rows = waiting.map(({ job, why }) => [
    why?.position ?? "–", runLink(job.id, job.name), job.user,
    why?.blocked_by?.map(({ message }) => message).join("; ") || job.status_reason.message,
    ago(why?.estimated_start_at), priority(job, done), h("span", { class: "row" }, buttons(job, done, ["Pause", "Cancel"])),
  ]);
  const more = length > waiting.length ? h("p", { class: "muted" }, `and ${length - waiting.length} more`) : null;
  return [table("Jobs that wait", ["#", "Job", "User", "Why it waits", "Starts", "Priority", ""], rows), more];
}

function overTable(jobs) {
  if (!jobs.length) return h("p", { class: "muted" }, "Nothing has ended yet. ", session.maySubmit() ? h("a", { href: href("submit", { dataset: FIRST }) }, `Train something on ${FIRST}`) : null);
  return table("Jobs that ended", ["Job", "User", "Status", "Ended", ""], jobs.map((job) => [
    runLink(job.id, job.name), job.user, badge(job.status), ago(job.finished_at), job.error ? h("span", { class: "muted" }, job.error.message) : "",
  ]));
}
