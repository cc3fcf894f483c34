/** One run: its curves as they grow, what they mean, and all that it leaves. */

import { below, find, get } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import * as session from "../api/session.js";
import { follow } from "../api/stream.js";
import { buttons, cloneLink, priority, runButtons } from "../page/actions.js";
import { definitions, h, isTypedInto, redraw, refill } from "../page/dom.js";
import { ago, duration, moment } from "../page/format.js";
import { tell } from "../page/notices.js";
import { badge, isOver, progress, runLink, warnings } from "../page/parts.js";
import { every, throttled } from "../page/polling.js";
import { href, remember } from "../page/route.js";
import { tabs } from "../page/tabs.js";
import { Curves } from "../run/curves.js";
import { drawDiagnosis } from "../run/diagnosis.js";
import { drawPredictions } from "../run/predictions.js";
import { drawCheckpoints, drawEvents, drawLogs, drawParameters, drawSpec } from "../run/record.js";

const ROUND = 1000; // milliseconds between two looks at a job that is not over
const TAB_ROUND = 3000; // of what stands below the charts
const USUAL = ["train_loss", "val_loss"];

/** @type {import("../main.js").View} */
export async function show(root, route, signal) {
  const page = new RunPage(root, route.part ?? "", route.query, signal);
  await page.start(route.query.get("tab"));
}

class RunPage {
  /** @param {HTMLElement} root @param {string} id @param {URLSearchParams} query @param {AbortSignal} signal */
  constructor(root, id, query, signal) {
    Object.assign(this, { root, id, signal });
    this.head = h("div");
    this.diagnosis = h("section", { class: "panel diagnosis", hidden: true });
    this.curves = new Curves(id, query, signal);
    this.refresh = throttled(150, () => this.look().catch(() => {}));
    this.diagnose = throttled(5000, () => this.findings());
  }

  async start(tab) {
    this.run = await get(below("/v1/runs", this.id), {}, this.signal);
    this.job = this.run.job_id && (await get(below("/v1/jobs", this.id), {}, this.signal)); // a script's run has none
    refill(this.root, this.head, this.diagnosis, this.curves.element, this.tabs(tab));
    this.draw();
    this.curves.setMetrics(Object.keys(this.run.metrics).length ? Object.keys(this.run.metrics) : USUAL);
    await this.curves.fetch();
    this.findings();
    if (!isOver(this.run.status)) this.watch();
  }

  /** News come by the stream; without a job, or where a stream cannot be had, by asking. */
  watch() {
    if (this.job) follow(below("/v1/jobs", this.id, "events"), ({ event }) => (event === "points" ? this.grown() : this.changed()), this.signal);
    every(ROUND, async () => {
      await this.look();
      if (!this.job) this.curves.again();
      return !isOver(this.run.status);
    }, this.signal).then(() => !this.signal.aborted && this.changed());
  }

  grown() {
    this.curves.again();
    this.diagnose();
  }

  changed() {
    this.refresh();
    this.curves.again();
    this.findings();
  }

  async look() {
    [this.run, this.job] = await Promise.all([get(below("/v1/runs", this.id), {}, this.signal), this.job && get(below("/v1/jobs", this.id), {}, this.signal)]);
    this.curves.setMetrics(Object.keys(this.run.metrics));
    this.draw();
  }

  async findings() {
    const look = (from, to) => this.curves.zoomToSteps(from, to);
    const [marks, events, checkpoints] = await Promise.all([
      drawDiagnosis(this.diagnosis, this.id, look, this.signal),
      this.job && find(below("/v1/jobs", this.id, "events"), { limit: 200 }, this.signal).catch(tell),
      this.job && find(below("/v1/jobs", this.id, "checkpoints"), { limit: 200 }, this.signal).catch(tell),
    ]);
    this.curves.setMarks([
      ...marks,
      ...(checkpoints?.data ?? []).map(({ step, is_best: best }) => ({ x: step, label: best ? `best checkpoint, step ${step}` : `checkpoint, step ${step}`, kind: "checkpoint" })),
      ...(events?.data ?? []).filter(({ code }) => code === "resumed").map(({ data, message }) => ({ x: data.step, label: message, kind: "attempt" })),
    ]);
  }

  draw() {
    const { run, job } = this;
    const shown = JSON.stringify([run.name, run.status, job?.progress, job?.status_reason, job?.priority]);
    if (shown === this.drawn || isTypedInto(this.head)) return;
    this.drawn = shown;
    document.title = `${run.name} · trainbox`;
    const done = () => this.look().catch(tell);
    redraw(this.head,
      h("div", { class: "row" }, h("h1", {}, run.name), badge(run.status, job?.status_reason?.message), job && !isOver(run.status) ? progress(job) : null, h("span", { class: "space" }),
        job ? buttons(job, done) : runButtons(run), job ? cloneLink(job) : null,
        h("a", { class: "button", href: href("compare", { runs: run.id }) }, "Compare"), curlButton(() => this.calls())),
      definitions(this.facts(done), "facts line"),
      job?.error ? h("p", { class: "bad" }, h("b", {}, job.error.code), `: ${job.error.message}`) : null,
      warnings(job?.warnings));
  }

  facts(done) {
    const { run, job } = this;
    return [
      ["id", h("code", {}, run.id)], ["user", run.user], ["project", run.project],
      ...(job && run.status === "queued" ? [["priority", priority(job, done)], ["why it waits", job.status_reason.message]] : []),
      ["created", h("span", { title: run.created_at }, moment(run.created_at))],
      ["trained for", duration(run.duration_seconds)],
      ...(run.finished_at ? [["ended", ago(run.finished_at)]] : []),
      ...(job?.attempt > 1 ? [["attempts", job.attempt]] : []),
      ...(job?.retry_of ? [["retry of", runLink(job.retry_of, job.retry_of)]] : []),
      ...(job?.study_id ? [["study", h("a", { href: href(`study/${job.study_id}`) }, job.study_id)]] : []),
    ];
  }

  tabs(first) {
    const about = { name: "about", title: "Parameters and metrics", draw: this.live((host) => drawParameters(host, this.run)) };
    const ofJob = [
      { name: "spec", title: "Plan and spec", draw: (host) => drawSpec(host, this.job) },
      { name: "logs", title: "Logs", draw: (host, signal) => drawLogs(host, this.id, signal) },
      { name: "events", title: "Events", draw: this.live((host, signal) => drawEvents(host, this.id, signal)) },
      { name: "checkpoints", title: "Checkpoints", draw: this.live((host, signal) => drawCheckpoints(host, this.id, signal)) },
      ...(session.maySubmit() ? [{ name: "predictions", title: "Predictions", draw: (host, signal) => drawPredictions(host, this.job, signal) }] : []),
    ];
    return tabs("About the run", this.job ? [about, ...ofJob] : [about], first, (tab) => remember({ tab }), this.signal);
  }

  /** Drawn again and again until the run is over, but not while somebody marks something to copy it. */
  live(draw) {
    return (host, signal) => every(TAB_ROUND, async () => {
      const over = isOver(this.run.status); // before: what it shows then will not change
      const marked = getSelection();
      if (!marked.isCollapsed && host.contains(marked.anchorNode)) return true;
      const places = [...host.querySelectorAll(".wide")].map(({ scrollLeft }) => scrollLeft);
      try {
        await draw(host, signal);
      } catch (error) {
        if (over) throw error; // else the look at the run, which goes on too, tells of it
      }
      host.querySelectorAll(".wide").forEach((each, place) => { each.scrollLeft = places[place] ?? 0; });
      return !over;
    }, signal);
  }

  calls() {
    const own = [{ path: below("/v1/runs", this.id) }, ...this.curves.calls(), { path: below("/v1/runs", this.id, "diagnosis") }];
    return this.job ? [{ path: below("/v1/jobs", this.id) }, ...own, { path: below("/v1/jobs", this.id, "logs") }] : own;
  }
}
