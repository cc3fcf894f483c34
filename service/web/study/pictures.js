/** What a study shows: pictures of its report, and while it runs of what its runs have come to. */

import * as session from "../api/session.js";
import { Chart } from "../charts/chart.js";
import { numbers } from "../charts/line.js";
import { look, swatch } from "../charts/palette.js";
import { parallel } from "../charts/parallel.js";
import { h, svg, table } from "../page/dom.js";
import { number, short, value } from "../page/format.js";
import { panel, runLink, warnings } from "../page/parts.js";
import { href } from "../page/route.js";
import { FIRST_VERDICTS, keyed, verdicts } from "../views/compare.js";

const RATE = "hyperparameters.learning_rate";
const BATCH = "hyperparameters.batch_size";
const ROW = ["batch_size", "learning_rate", "samples_per_second", "peak_memory_mib", "steps_to_target", "epochs_to_target", "samples_to_target", "seconds_to_target", "best", "runs", "runs_to_target"];
const MOST_ROWS = 200;

/** @typedef {{ x: number, y: any, low?: any, high?: any }} Dot */

const VERDICTS = { holds: "so here", partly: "partly so here", does_not_hold: "not so here", cannot_tell: "cannot be told" };

/** The pictures and tables of a study's report, the one so far too. @param {any} study */
export function ofReport(study) {
  const { report } = study;
  const kinds = { lr_range: rates, batch_size: sizes, grid: combinations, search };
  const shown = kinds[study.kind] ? kinds[study.kind](report, study) : [panel("Report", h("pre", { tabindex: "0" }, JSON.stringify(report, null, 2)))];
  const so = report.partial;
  return so ? [h("p", { class: "muted" }, `So far: ${so.jobs_over} of ${so.total_jobs} jobs are over.`), ...shown] : shown;
}

/** Where a study stands before its report has anything to show. @param {any} study @param {any[]} runs its runs, with their metrics */
export function ofRuns(study, runs) {
  const asked = study.spec?.target?.metric ?? study.spec?.metric ?? "val_loss";
  if (study.kind === "lr_range") return [panel("So far", chart("Loss after the steps so far, by learning rate", "learning rate", [dots("train_loss", runs, RATE, "train_loss", "last")], { logX: true }))];
  if (study.kind === "batch_size") return [panel("So far", chart(`Best ${asked} so far, by batch size`, "batch size", [dots(asked, runs, BATCH, asked, "best")], { logX: true }))];
  const names = Object.keys(study.spec?.grid ?? study.spec?.space ?? {});
  const measured = runs.filter(({ metrics }) => typeof metrics[asked]?.best === "number");
  if (measured.length < 2 || !names.length) return [];
  return [panel("So far", parallel(asked, measured[0].metrics[asked].direction, names, measured.map(({ id, name, parameters, metrics }) => ({ id, name, parameters, best: metrics[asked].best }))))];
}

function dots(label, runs, parameter, metric, which) {
  const found = runs.filter(({ parameters, metrics }) => typeof parameters[parameter] === "number" && metrics[metric]).map(({ parameters, metrics }) => ({ x: parameters[parameter], y: metrics[metric][which] }));
  return { label, dots: found };
}

/**
 * A chart of values against a parameter.
 * @param {string} label @param {string} xLabel @param {{ label: string, dots: Dot[], dash?: number[], scattered?: boolean }[]} series
 * @param {Partial<import("../charts/chart.js").Options>} [options] @param {import("../charts/chart.js").Mark[]} [marks]
 */
function chart(label, xLabel, series, options = {}, marks = []) {
  const host = h("div");
  const lines = series.map(({ label: name, dots: given, dash, scattered }, place) => {
    const sorted = [...given].sort((a, b) => a.x - b.x);
    const column = (key) => numbers(sorted.map((each) => each[key]));
    const banded = sorted.some(({ low }) => low !== undefined && low !== null);
    return { ...look(place), ...(dash && { dash }), scattered, label: name, x: column("x"), y: column("y"), ...(banded && { low: column("low"), high: column("high") }) };
  });
  // The size of a host is known once it stands in the page.
  requestAnimationFrame(() => host.isConnected && new Chart(host, { label, xLabel, height: 280, ...options }).show(lines, marks));
  const legend = series.length > 1 || marks.length ? h("figcaption", {}, series.map(({ label: name }, place) => h("span", { class: "legend" }, swatch(place, svg), " ", name)), marks.map((mark) => h("span", { class: "legend muted" }, h("i", { class: `mark ${mark.kind}` }), mark.label))) : null;
  return h("figure", { class: "parallel" }, h("p", { class: "muted" }, label), host, legend);
}

/** Of a learning-rate range. */
function rates(report, study) {
  const at = (key, rest = () => ({})) => report.rates.filter((each) => each[key] !== null).map((each) => ({ x: each.learning_rate, y: each[key], ...rest(each) }));
  const series = [{ label: "training loss", dots: at("loss", ({ low, high }) => ({ low, high })) }];
  if (report.rates.some(({ held_out_loss: held }) => held !== null && held !== undefined)) series.push({ label: "validation loss", dots: at("held_out_loss") });
  const marks = [["suggested", "suggested", "good"], ["stability_edge", "stability edge", "bad"], ["best_after_steps", "best after the steps", "text"]]
    .filter(([key]) => report[key]).map(([key, label, kind]) => ({ x: report[key], label: `${label} ${number(report[key])}`, kind }));
  if (report.interval) marks.push({ x: report.interval[0], to: report.interval[1], label: `between ${number(report.interval[0])} and ${number(report.interval[1])}`, kind: "good" });
  const positive = series.every(({ dots: given }) => given.every(({ y }) => y > 0)); // a likelihood's logarithm need not be
  return [panel("Learning rate",
    h("p", { class: "big" }, report.suggested ? `Suggested: ${number(report.suggested)}` : `No ${report.partial ? "answer yet" : "clear answer"}: ${report.no_clear_answer?.message ?? ""}`),
    report.rule ? h("p", { class: "muted" }, report.rule) : null,
    others(report),
    report.suggested && session.maySubmit() ? h("p", {}, h("a", { class: "button", href: href("submit", { spec: JSON.stringify(withRate(study.spec.base, report.suggested)) }) }, "A job with this rate")) : null,
    chart("Loss after the first steps, by learning rate", "learning rate", series, { logX: true, logY: positive }, marks)),
  panel("Rates", table("Rates", ["learning rate", "training loss", "validation loss", "runs", "unstable"], report.rates.map((each) => [number(each.learning_rate), number(each.loss), number(each.held_out_loss), each.runs, each.unstable ?? ""])))];
}

function withRate({ name: _, ...base }, rate) {
  return { ...base, hyperparameters: { ...base.hyperparameters, learning_rate: Number(rate.toPrecision(2)) } };
}

function others({ others: found }) {
  const told = Object.entries(found ?? {}).filter(([, rate]) => rate !== null);
  return told.length ? h("p", { class: "muted" }, `Other rules: ${told.map(([name, rate]) => `${name} ${number(rate)}`).join(", ")}`) : null;
}

/** Of batch sizes: time, steps and quality against the size. */
function sizes(report) {
  const { metric } = report.target;
  const known = report.rows.filter((row) => row.samples_per_step);
  const against = (key) => known.filter((row) => row[key] !== null).map((row) => ({ x: row.samples_per_step, y: row[key] }));
  // A size that never came to the target has a cross at the upper edge.
  const until = (key) => known.map((row) => ({ x: row.samples_per_step, y: row[key] }));
  const missed = known.some((row) => row.steps_to_target === null) ? h("p", { class: "muted" }, "✕ at the upper edge: it never came there") : null;
  const perfect = (report.perfect_scaling ?? []).map((each) => ({ x: report.rows.find((row) => row.batch_size === each.batch_size)?.samples_per_step, y: each.steps })).filter(({ x }) => x);
  const xTicks = known.map((row) => [row.samples_per_step, String(row.batch_size)]).sort((a, b) => a[0] - b[0]);
  const options = { logX: true, logY: true, xTicks };
  return [
    panel("Answer", h("ul", {}, (report.conclusions ?? []).map((each) => h("li", {}, each))), report.confounded ? warnings([{ message: "The learning rate was not found anew for each size: it confounds the answer." }]) : null),
    h("div", { class: "charts" },
      panel("Time", chart(`Seconds to ${metric} ${number(report.target.value)}`, "batch size", [{ label: "seconds", dots: until("seconds_to_target") }], options), missed),
      panel("Steps", chart(`Steps to ${metric} ${number(report.target.value)}`, "batch size", [{ label: "steps", dots: until("steps_to_target") }, { label: "half the steps for twice the batch", dots: perfect, dash: [5, 4] }], options)),
      panel("Quality", chart(`Best ${metric}`, "batch size", [{ label: metric, dots: against("best") }], { logX: true, xTicks })),
      panel("Speed", chart("Samples per second", "batch size", [{ label: "samples per second", dots: against("samples_per_second") }], options))),
    report.sayings?.length ? panel("What is said of batch sizes", table("What is said of batch sizes", ["saying", "this study", "because"], report.sayings.map((each) => [each.saying, VERDICTS[each.verdict], each.because]))) : null,
    panel("Batch sizes", table("Batch sizes", ROW.map((name) => name.replaceAll("_", " ")), report.rows.map((row) => ROW.map((name) => value(row[name]))))),
  ];
}

/** Of a grid. */
function combinations(report) {
  return [
    report.best ? panel("Best", h("p", { class: "big" }, keyed(report.best.parameters)), h("p", {}, `mean ${report.metric} ${number(report.best.mean)} over ${report.best.runs} runs`), warnings(report.warnings)) : warnings(report.warnings),
    coordinates(report),
    effects(report),
    importances(report),
    report.verdicts?.length ? verdicts(report.verdicts.slice(0, FIRST_VERDICTS), report.verdicts.slice(FIRST_VERDICTS), report.metric) : null,
    panel("Groups", table("Groups", ["setting", "runs", `mean ${report.metric}`, "95 % interval"], report.groups.map((each) => [keyed(each.parameters), each.runs, number(each.mean), each.interval ? `${number(each.interval[0])} to ${number(each.interval[1])}` : "–"]))),
    panel("Ranking", table("Ranking", ["#", "run", "setting", "seed", report.metric], report.ranking.slice(0, MOST_ROWS).map((each) => [each.rank ?? "–", each.job_id ? runLink(each.job_id, each.job_id) : "–", keyed(each.parameters), each.seed, number(each.value)]))),
  ];
}

/** Of a search. */
function search(report, study) {
  const of = (key, states) => report.history.filter((each) => each[key] !== null && states.includes(each.state)).map((each) => ({ x: each.trial, y: each[key] }));
  const series = [
    { label: "best so far", dots: of("best_so_far", ["complete", "pruned", "failed"]) },
    { label: "whole trials", dots: of("value", ["complete"]), scattered: true },
    { label: "trials ended early", dots: of("value", ["pruned"]), scattered: true },
  ];
  return [
    panel("Best trial", report.best ? [h("p", { class: "big" }, `${report.metric} ${number(report.best.value)}`), h("p", {}, keyed(report.best.parameters), " ", report.best.job_id ? runLink(report.best.job_id, "its run") : null)] : h("p", {}, "No trial was trained to its end.")),
    coordinates(report),
    panel("History", chart(`${report.metric} of each trial`, "trial", series.filter(({ dots: given }) => given.length), { wholeX: true })),
    importances(report),
    effects(report, study.spec?.space),
    panel("Trials", table("Trials", ["#", "run", "setting", "state", report.metric], report.history.slice(0, MOST_ROWS).map((each) => [each.trial, each.job_id ? runLink(each.job_id, each.job_id) : "–", keyed(each.parameters), each.state, number(each.value)]))),
  ];
}

function coordinates({ metric, direction, parallel_coordinates: found }) {
  if (!found?.rows.length) return null;
  const names = found.axes.slice(0, -1);
  const entries = found.rows.map((row, place) => ({ id: found.job_ids[place], name: found.job_ids[place] ?? "a run", parameters: Object.fromEntries(names.map((name, at) => [name, row[at]])), best: row.at(-1) }));
  return entries.filter(({ best }) => typeof best === "number").length > 1 ? panel("Parallel coordinates", parallel(metric, direction, names, entries)) : null;
}

/** @param {any} report @param {Record<string, any>} [space] of a search: a part of a range is told by its ends */
function effects({ main_effects: effects, metric }, space = {}) {
  const found = Object.entries(effects ?? {});
  if (!found.length) return null;
  const told = (name, level) => (space[name]?.choices === null && Array.isArray(level) ? `${number(level[0])} to ${number(level[1])}` : value(level));
  const rows = found.flatMap(([name, each]) => each.levels.map((level) => [short(name), told(name, level.value), number(level.mean), level.runs]));
  return panel("Main effects", bars(found.map(([name, each]) => [short(name), each.share_of_variance])), table("Main effects", ["parameter", "value", `mean ${metric}`, "runs"], rows));
}

function importances({ importances: found }) {
  return Object.keys(found ?? {}).length > 1 ? panel("Importance", bars(Object.entries(found).map(([name, share]) => [short(name), share]))) : null;
}

/** Shares of one as bars. @param {[string, number | null][]} rows */
function bars(rows) {
  return h("div", { class: "bars" }, rows.filter(([, share]) => share !== null).map(([name, share]) =>
    h("div", { class: "bar" }, h("span", {}, name), h("meter", { value: share, max: 1, "aria-label": `${name}: ${Math.round(share * 100)} %` }), h("span", {}, `${Math.round(share * 100)} %`))));
}
