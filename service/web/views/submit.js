/** A new job: a form of all that can be said, and what it would do while one types. Also for a copy with changes. */

import { ask, below, create, freshKey, get, Problem } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import { choosing } from "../form/choosing.js";
import { Form } from "../form/form.js";
import { h, refill } from "../page/dom.js";
import { value } from "../page/format.js";
import { notice, tell } from "../page/notices.js";
import { panel, runLink, warnings } from "../page/parts.js";
import { settled } from "../page/polling.js";
import { go, href, remember } from "../page/route.js";
import { plan } from "../run/record.js";

const SETTLED = 250; // milliseconds without a key

/** @type {import("../main.js").View} */
export async function show(root, route, signal) {
  const clone = route.query.get("clone");
  const [tasks, datasets, original] = await Promise.all([
    get("/v1/tasks", {}, signal), get("/v1/datasets", { limit: 200 }, signal), clone && get(below("/v1/jobs", clone), {}, signal),
  ]);
  const given = route.query.has("spec") ? JSON.parse(route.query.get("spec")) : original?.spec ?? begun(route.query.get("dataset"), datasets.data);
  new Submission(root, tasks, datasets.data, original, given, signal).start();
}

/** A data set with its task. @param {string | null} dataset @param {any[]} datasets */
function begun(dataset, datasets) {
  return dataset ? { dataset, task: datasets.find(({ name }) => name === dataset)?.task } : {};
}

class Submission {
  constructor(root, tasks, datasets, original, given, signal) {
    Object.assign(this, { root, tasks: tasks.data, datasets, original, signal });
    this.help = h("div", { class: "help" });
    this.told = h("div", { class: "stack", "aria-live": "polite" });
    this.key = freshKey(); // of what the form says now: sent twice, it creates once
    const typed = settled(SETTLED, () => {
      if (signal.aborted) return;
      remember({ spec: JSON.stringify(this.form.spec()), dataset: null }); // for a reload, and whoever comes back
      this.check();
    });
    this.form = new Form(tasks.spec, given, () => { this.key = freshKey(); typed(); }, { dataset: datasets.map(({ name }) => name) });
    this.button = h("button", { class: "primary", click: () => this.submit() }, original ? "Submit the copy" : "Submit");
  }

  start() {
    const { original } = this;
    refill(this.root,
      h("div", { class: "row" }, h("h1", {}, original ? "A copy with changes" : "A new job"), original ? h("span", {}, "of ", runLink(original.id, original.name)) : h("a", { href: href("datasets") }, "upload a data set"),
        h("span", { class: "space" }), curlButton(() => [this.call(true), this.call(false)])),
      h("div", { class: "split" }, this.form.element, h("aside", {}, h("div", { class: "sticky" }, h("div", { class: "row" }, this.button), this.told))));
    this.form.inputs.get("hyperparameters.learning_rate")?.input.closest(".fields").before(this.help);
    this.form.inputs.get("dataset")?.input.addEventListener("change", (event) => this.setTask(event.target.value));
    this.check();
  }

  /** A data set has classes, numbers or bytes to learn, and each task learns one of these. @param {string} dataset */
  setTask(dataset) {
    const found = this.datasets.find(({ name }) => name === dataset.split("@")[0]);
    const task = this.form.inputs.get("task")?.input;
    const learns = (name) => this.tasks.find((each) => each.name === name)?.targets;
    if (!found?.task || !task || learns(task.value) === learns(found.task)) return;
    task.value = found.task;
    task.dispatchEvent(new Event("change", { bubbles: true }));
  }

  /** @param {boolean} dry */
  call(dry) {
    const [path, body] = this.original ? [below("/v1/jobs", this.original.id, "clone"), this.form.patch(this.original.spec)] : ["/v1/jobs", this.form.spec()];
    return { path, method: "POST", body, query: dry ? { dry_run: true } : {} };
  }

  async check() {
    this.advise(this.plan);
    if (!this.original && this.form.missing().length) {
      this.advise(null);
      refill(this.told, h("p", { class: "muted" }, "Choose a task and a data set: the plan then stands here."));
      return;
    }
    const { path, body, query } = this.call(true);
    this.round = (this.round ?? 0) + 1;
    const round = this.round;
    try {
      const answer = await ask(path, { method: "POST", body, query, signal: this.signal });
      const found = await answer.json();
      if (round !== this.round) return;
      this.form.tell([]);
      this.advise(found.plan);
      refill(this.told, found.changes ? this.changes(found.changes) : null, panel("Plan", plan(found.plan)), warnings(found.warnings));
    } catch (error) {
      if (round === this.round && !this.signal.aborted) this.refused(error);
    }
  }

  /** The sum of the last plan stays while the next one is asked for: a line that comes and goes moves the form. @param {any} plan */
  advise(plan = null) {
    this.plan = plan;
    refill(this.help, choosing(this.form.spec(), plan));
  }

  refused(error) {
    this.advise(null);
    if (!(error instanceof Problem) || !error.errors.length) return tell(error);
    const rest = this.form.tell(error.errors);
    return refill(this.told, h("p", { class: "muted" }, "No plan yet: something is missing or wrong."), warnings(rest));
  }

  changes(changes) {
    return panel("What changes", changes.length ? h("ul", { class: "changes" }, changes.map(({ param, from, to, meaning }) =>
      h("li", {}, h("code", {}, param), ` ${value(from)} → ${value(to)}`, h("p", { class: "muted" }, meaning)))) : h("p", { class: "muted" }, "Nothing yet: this would be the same job once more."));
  }

  async submit() {
    const { path, body } = this.call(false);
    this.button.disabled = true;
    try {
      const job = await create(path, body, this.key);
      notice("The job waits for its turn.");
      go(`run/${job.id}`);
    } catch (error) {
      this.refused(error);
    } finally {
      this.button.disabled = false;
    }
  }
}
