/** Studies: what was asked of whole families of jobs, and a way to ask. */

import { create, freshKey, get, Problem, send } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import * as session from "../api/session.js";
import { choice, h, refill, table } from "../page/dom.js";
import { ago, grouped } from "../page/format.js";
import { tell } from "../page/notices.js";
import { badge, panel, warnings } from "../page/parts.js";
import { every, settled } from "../page/polling.js";
import { go, href } from "../page/route.js";

const ROUND = 5000; // milliseconds
const BASE = { task: "classification", dataset: "digits", hyperparameters: { epochs: 5 } };
const EXAMPLES = {
  lr_range: { kind: "lr_range", name: "digits: which learning rate", base: BASE, learning_rates: { low: 1e-5, high: 10, count: 12 }, steps: 100, seeds: 2 },
  batch_size: { kind: "batch_size", name: "digits: which batch size", base: BASE, batch_sizes: [16, 64, 256], target: { metric: "val_loss", value: 0.3 }, learning_rate: "sqrt" },
  grid: { kind: "grid", name: "digits: rate and batch", base: BASE, grid: { "hyperparameters.learning_rate": [0.001, 0.003, 0.01], "hyperparameters.batch_size": [32, 128] }, seeds: 2 },
  search: { kind: "search", name: "digits: search", base: BASE, space: { "hyperparameters.learning_rate": { type: "float", low: 1e-4, high: 0.1, log: true }, "hyperparameters.batch_size": { choices: [32, 64, 128] } }, trials: 12, metric: "val_loss", sampler: "tpe", pruner: "median" },
};

/** @type {import("../main.js").View} */
export async function show(root, route, signal) {
  const list = h("div");
  refill(root, h("div", { class: "row" }, h("h1", {}, "Studies"), h("span", { class: "space" }), curlButton(() => [{ path: "/v1/studies" }])), panel("Studies", list), session.maySubmit() ? request(route.query, signal) : null);
  await every(ROUND, () => drawList(list, signal), signal);
}

async function drawList(list, signal) {
  const found = await get("/v1/studies", { limit: 200 }, signal);
  if (!signal.aborted) refill(list, found.data.length ? table("Studies", ["study", "kind", "status", "jobs over", "user", "created"], found.data.map((study) => [
    h("a", { href: href(`study/${study.id}`) }, study.name ?? study.id), study.kind.replaceAll("_", " "), badge(study.status), study.progress?.total_jobs ? `${study.progress.finished ?? 0} of ${study.progress.total_jobs}` : "–", study.user, ago(study.created_at)]))
    : h("p", { class: "muted" }, "No study yet."));
}

/** @param {string} kind @param {any} base a spec; the example's own where there is none */
function draft(kind, base) {
  const example = EXAMPLES[kind];
  return base ? { ...example, name: example.name.replace(BASE.dataset, base.dataset), base } : example;
}

/**
 * A request to edit, with what it would create. The address may say its kind and the spec that its jobs begin with.
 * @param {URLSearchParams} query @param {AbortSignal} signal
 */
function request(query, signal) {
  const first = Object.hasOwn(EXAMPLES, query.get("kind") ?? "") ? query.get("kind") : null;
  const base = query.has("base") ? JSON.parse(query.get("base")) : null;
  const told = h("div", { "aria-live": "polite" });
  const text = h("textarea", { rows: 14, spellcheck: "false", "aria-label": "The request, as JSON", class: "code", input: () => typed() });
  let [key, round] = [freshKey(), 0];
  const fill = (kind) => { text.value = JSON.stringify(draft(kind, base), null, 2); typed(); };
  const ask = async (dry) => {
    round += 1;
    const mine = round; // what an older request comes to is no longer of interest
    try {
      const body = JSON.parse(text.value);
      if (!dry) return go(`study/${(await create("/v1/studies", body, key)).id}`);
      const found = await send("/v1/studies", { body, query: { dry_run: true }, signal });
      if (mine !== round) return null;
      return refill(told, h("p", {}, `${grouped(found.jobs?.length ?? found.total_jobs ?? 0)} jobs, ${grouped(found.total_steps ?? 0)} steps in all.`), warnings(found.warnings));
    } catch (error) {
      if (signal.aborted || mine !== round) return null;
      if (error instanceof SyntaxError) return refill(told, h("p", { class: "bad" }, "This is no JSON yet."));
      return error instanceof Problem && error.errors.length ? refill(told, warnings(error.errors)) : tell(error);
    }
  };
  const dryRun = settled(400, () => ask(true));
  const typed = () => {
    key = freshKey();
    round += 1;
    refill(told);
    dryRun();
  };
  const open = (event) => event.target.open && !text.value && fill(first ?? "lr_range");
  return h("details", { class: "panel", toggle: open, open: Boolean(first) }, h("summary", {}, h("h2", {}, "New study ▸")),
    h("div", { class: "stack" }, choice("Kind", Object.keys(EXAMPLES).map((kind) => [kind, kind.replaceAll("_", " ")]), first ?? "lr_range", fill), text, told, h("div", { class: "row" }, h("button", { class: "primary", click: () => ask(false) }, "Begin the study"))));
}
