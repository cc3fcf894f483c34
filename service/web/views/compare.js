/** Runs side by side: their curves in one chart, what differs, and which did best. */

import { below, download, find, get } from "../api/client.js";
import { button as curlButton } from "../api/curl.js";
import { Chart } from "../charts/chart.js";
import * as line from "../charts/line.js";
import { look, swatch } from "../charts/palette.js";
import { parallel } from "../charts/parallel.js";
import { choice, h, refill, svg, table } from "../page/dom.js";
import { grouped, number, short, value } from "../page/format.js";
import { tell } from "../page/notices.js";
import { panel, runLink, warnings } from "../page/parts.js";
import { settled } from "../page/polling.js";
import { remember } from "../page/route.js";
import { AXES, AXIS_LABELS, below0, COUNTED } from "../run/curves.js";

const POINTS = 1000;
const SETTLED = 180; // milliseconds after which a zoomed stretch is fetched
const WEIGHTS = ["", "0.5", "0.9", "0.97"];
const STATE = ["metric", "x", "smooth", "target", "group_by", "logx", "logy"];
export const FIRST_VERDICTS = 8;
const MOST_VERDICTS = 200;
const MOST_TOLD = 4; // parameters in the name of a line
const OUTCOMES = ["best", "best_at", "last", "tail_mean", "to_target"];

/** @type {import("../main.js").View} */
export async function show(root, route, signal) {
  await new Comparison(root, route.query, signal).start();
}

class Comparison {
  /** @param {HTMLElement} root @param {URLSearchParams} query `runs`, or the filters of the list of runs @param {AbortSignal} signal */
  constructor(root, query, signal) {
    Object.assign(this, { root, signal });
    this.state = Object.fromEntries(STATE.map((name) => [name, query.get(name) ?? ""]));
    this.state.x ||= "step";
    this.filters = Object.fromEntries([...query].filter(([name]) => !STATE.includes(name)));
    this.host = h("div");
    this.note = h("figcaption", { class: "muted" });
    this.outcome = h("div", { class: "stack" });
    this.controls = h("div", { class: "row controls" });
    this.detail = settled(SETTLED, () => this.fetchDetail().catch(() => {}));
    this.reload = settled(50, () => this.fetch().catch(tell));
  }

  async start() {
    const [first] = (this.filters.runs ?? "").split(",").filter(Boolean);
    const run = first ? await get(below("/v1/runs", first), {}, this.signal) : (await get("/v1/runs", { ...this.filters, limit: 1 }, this.signal)).data[0];
    this.metrics = Object.keys(run?.metrics ?? {});
    this.state.metric ||= this.metrics.includes("val_loss") ? "val_loss" : this.metrics[0] ?? "train_loss";
    refill(this.root,
      h("div", { class: "row" }, h("h1", {}, "Compare"), h("span", { class: "space" }), h("button", { class: "quiet", click: () => this.picture() }, "PNG"), curlButton(() => [{ path: "/v1/compare", query: this.query() }])),
      this.controls, h("figure", { class: "panel first" }, this.host, this.note), this.outcome);
    this.chart = new Chart(this.host, { ...this.options(), height: 420, onZoom: () => this.detail() });
    await this.fetch();
  }

  options() {
    const { metric, x, logx, logy } = this.state;
    return { label: `${metric} of the runs over ${AXIS_LABELS[x]}`, xLabel: AXIS_LABELS[x], wholeX: COUNTED.includes(x), logX: Boolean(logx), logY: Boolean(logy) };
  }

  query() {
    const { metric, x, smooth, target, group_by: group } = this.state;
    return { ...this.filters, metric, x, smooth, target, group_by: group, points: POINTS };
  }

  async fetch() {
    const found = await get("/v1/compare", this.query(), this.signal);
    if (this.signal.aborted) return;
    this.found = found;
    this.names = namesOf(found.runs, found.differing_parameters);
    Object.assign(this.chart, { view: null, bounds: null });
    this.drawControls();
    this.drawChart();
    this.chart.bounds = this.chart.whole();
    this.drawOutcome();
  }

  set(name, chosen) {
    this.state[name] = chosen;
    remember({ [name]: chosen });
    if (name.startsWith("log") || name === "x" || name === "metric") this.chart.change(this.options());
    if (!name.startsWith("log")) this.reload();
  }

  drawControls() {
    const { state } = this;
    const box = (text, name) => h("label", { class: "check" }, h("input", { type: "checkbox", checked: Boolean(state[name]), change: (event) => this.set(name, event.target.checked ? "1" : "") }), ` ${text}`);
    const metrics = [...new Set([state.metric, ...this.metrics])];
    refill(this.controls,
      choice("metric", metrics, state.metric, (chosen) => this.set("metric", chosen)),
      choice("x", AXES.map((each) => [each, AXIS_LABELS[each]]), state.x, (chosen) => this.set("x", chosen)),
      box("log x", "logx"), box("log y", "logy"),
      choice("smoothing", WEIGHTS.map((each) => [each, each || "none"]), state.smooth, (chosen) => this.set("smooth", chosen)),
      h("label", { class: "field" }, h("span", {}, "target"), h("input", { type: "number", step: "any", class: "narrow", value: state.target, change: (event) => this.set("target", event.target.value) })),
      choice("group by", [["", "nothing"], ...this.groupable()], state.group_by, (chosen) => this.set("group_by", chosen)),
      h("button", { class: "quiet", click: () => this.chart.zoom(null, null) }, "All of it"));
  }

  /** @returns {[string, string][]} */
  groupable() {
    const names = this.found.differing_parameters.filter((name) => short(name) !== "seed");
    return [...new Set([...names, this.state.group_by].filter(Boolean))].map((name) => [name, short(name)]);
  }

  drawChart() {
    const { found } = this;
    this.groups = ranked(found.groups);
    this.looks = new Map(ranked(found.runs).map(({ run_id: id }, place) => [id, place]));
    this.groups.forEach(({ run_ids: ids }, place) => ids.forEach((id) => this.looks.set(id, place)));
    this.groupLines = this.groups.filter(({ curve }) => curve?.x.length).map((group) => this.groupLine(group, this.groups.indexOf(group)));
    this.runLines = new Map(found.runs.filter(({ curve }) => curve).map((run) => [run.run_id, this.runLine(run, run.curve)]));
    this.refresh();
  }

  refresh() {
    const single = [...this.runLines.values()];
    const target = this.state.target === "" ? null : Number(this.state.target);
    const shown = this.groupLines.length ? [...single.map((each) => ({ ...each, alpha: 0.22, width: 1, quiet: true, low: undefined, high: undefined })), ...this.groupLines] : single;
    this.chart.show(shown, [], Number.isFinite(target) ? target : null);
    refill(this.note, this.found.runs.length ? "" : "No run matches.", this.state.logy ? below0(shown) : "");
  }

  /** Bands of many runs would hide each other. */
  runLine(run, curve) {
    const style = look(this.looks.get(run.run_id));
    const count = this.found.runs.length;
    return line.of(curve, { ...style, label: this.names.get(run.run_id), width: count > 12 ? 1 : 1.5, veiled: count > 4 });
  }

  groupLine({ key, curve }, place) {
    const style = look(place);
    return { ...style, label: this.named(key), x: line.numbers(curve.x), y: line.numbers(curve.mean), low: line.numbers(curve.lower), high: line.numbers(curve.upper), soft: true, width: 2 };
  }

  /** What is zoomed into is shown with points of its own; so is all of it again. */
  async fetchDetail() {
    const { view } = this.chart;
    const { metric, x, smooth } = this.state;
    const whole = new Map(this.found.runs.filter(({ curve }) => curve).map((run) => [run.run_id, run.curve]));
    const fresh = await Promise.all([...this.runLines].map(async ([id]) => {
      const curve = whole.get(id);
      if (!view || !curve.downsampled) return [id, curve];
      const all = line.of(curve);
      const at = (value) => all.step[line.nearest(all.x, value)];
      return [id, await find(below("/v1/runs", id, "curves"), { metric, x, smooth, points: POINTS, from: at(view[0]), to: at(view[1]) }, this.signal)];
    }));
    if (this.signal.aborted || String(view) !== String(this.chart.view)) return;
    const runs = new Map(this.found.runs.map((run) => [run.run_id, run]));
    this.runLines = new Map(fresh.filter(([, curve]) => curve).map(([id, curve]) => [id, this.runLine(runs.get(id), curve)]));
    this.refresh();
  }

  drawOutcome() {
    const { found } = this;
    refill(this.outcome, warnings(found.warnings), this.groups.length ? [this.groupTable(), this.verdicts(), this.ranking()] : [this.ranking(), this.verdicts()], this.coordinates());
  }

  ranking() {
    const { found } = this;
    const outcomes = this.outcomes();
    // What has come of it first: of runs that have little in common, the parameters reach beyond the page.
    const heads = ["#", "", "run", ...outcomes.map((name) => this.inUnits(name)), ...found.differing_parameters.map((name) => h("span", { title: name }, short(name)))];
    const runs = ranked(found.runs);
    const rows = runs.map((run) => [run.rank ?? "–", swatch(this.looks.get(run.run_id), svg), runLink(run.run_id, run.name), ...outcomes.map((name) => number(run.summary?.[name])), ...found.differing_parameters.map((name) => value(run.parameters[name]))]);
    const focus = (place) => () => this.chart.focus(this.runLines.get(runs[place].run_id) ?? null);
    const leave = () => this.chart.focus(null);
    const made = table(`Runs by ${found.metric}, best first`, heads, rows, (place) => ({ pointerenter: focus(place), pointerleave: leave, focusin: focus(place), focusout: leave }));
    made.classList.add("ranking");
    return panel("Ranking", made);
  }

  /** What runs and groups have come to, as far as it was asked for. */
  outcomes() {
    return OUTCOMES.filter((name) => name !== "to_target" || this.state.target !== "");
  }

  inUnits(name) {
    return name === "best_at" || name === "to_target" ? `${name} (${AXIS_LABELS[this.state.x]})` : name;
  }

  /** What is said of the best one; of the others on demand. */
  verdicts() {
    const told = this.found.verdicts;
    if (!told.length) return null;
    const best = JSON.stringify(this.groups.length ? this.groups[0].key : ranked(this.found.runs)[0].run_id);
    const first = told.filter(({ a, b }) => [JSON.stringify(a), JSON.stringify(b)].includes(best)).slice(0, FIRST_VERDICTS);
    return verdicts(first, told.filter((each) => !first.includes(each)), this.found.metric, (key) => this.named(key));
  }

  /** A group or a run in words. @param {any} key */
  named(key) {
    if (this.names.has(key)) return this.names.get(key);
    return this.state.group_by && (key === null || typeof key !== "object") ? `${short(this.state.group_by)} ${keyed(key)}` : keyed(key);
  }

  groupTable() {
    if (!this.groups.length) return null;
    const names = ["best", "deviation", "interval", ...this.outcomes().slice(1)].filter((name) => name in (this.groups[0].summary ?? {}));
    const cell = (each) => (Array.isArray(each) ? each.map((end) => number(end)).join(" to ") : number(each));
    const rows = this.groups.map((group, place) => [group.rank ?? place + 1, swatch(place, svg), this.named(group.key), group.run_ids.length, ...names.map((name) => cell(group.summary[name]))]);
    return panel("Groups", table("Groups", ["#", "", "group", "runs", ...names.map((name) => this.inUnits(name))], rows));
  }

  coordinates() {
    const { found } = this;
    const measured = found.runs.filter(({ summary }) => typeof summary?.best === "number");
    if (measured.length < 3 || !found.differing_parameters.length) return null;
    const entries = measured.map((run) => ({ id: run.run_id, name: run.name, parameters: run.parameters, best: run.summary.best }));
    return panel("Parallel coordinates", parallel(found.metric, found.direction, found.differing_parameters.slice(0, 8), entries));
  }

  async picture() {
    await download("/v1/compare", "compare.png", { ...this.query(), format: "png" }).catch(tell);
  }
}

/** Best first. @param {any[]} runs */
function ranked(runs) {
  return [...runs].sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity));
}

/**
 * What each run is called, by id: by as few of the differing parameters as tell them apart, by names where these do not, and else by both
 * parameters and ids. @param {any[]} runs @param {string[]} differing @returns {Map<string, string>}
 */
function namesOf(runs, differing) {
  const by = (count) => runs.map(({ name, parameters }) => differing.slice(0, count).filter((each) => each in parameters).map((each) => `${short(each)} ${value(parameters[each])}`).join(", ") || name);
  const most = Math.min(MOST_TOLD, differing.length);
  const choices = [...Array(most).keys()].map((less) => by(less + 1));
  const apart = [...choices, by(0)].find((words) => new Set(words).size === runs.length);
  const words = apart ?? by(most).map((word, place, all) => (all.indexOf(word) === all.lastIndexOf(word) ? word : `${word} (${runs[place].run_id})`));
  return new Map(runs.map(({ run_id: id }, place) => [id, words[place]]));
}

/** @param {any} key of a group: a value, or names with values */
export function keyed(key) {
  if (key === null || typeof key !== "object" || Array.isArray(key)) return value(key);
  return Object.entries(key).map(([name, each]) => `${short(name)} ${value(each)}`).join(", ");
}

/**
 * Verdicts as sentences, some of them on demand.
 * @param {any[]} first @param {any[]} rest @param {string} metric @param {(key: any) => string} [named]
 */
export function verdicts(first, rest, metric, named = keyed) {
  const list = (shown) => h("ul", { class: "verdicts" }, shown.map((each) => h("li", {}, verdict(each, metric, named))));
  const further = rest.slice(0, MOST_VERDICTS);
  return panel("Verdicts", list(first), further.length ? h("details", {}, h("summary", { class: "muted" }, `${further.length} more ▸`), list(further)) : null);
}

/** A verdict as a sentence. @param {any} told @param {string} metric @param {(key: any) => string} [named] */
function verdict({ a, b, difference, interval, verdict, basis, more_seeds_needed: more }, metric, named = keyed) {
  const words = { better: "is better than", worse: "is worse than", cannot_tell: "cannot be told from" };
  const range = interval?.every((each) => each !== null) ? `, between ${number(interval[0])} and ${number(interval[1])}` : "";
  return [h("b", {}, named(a)), ` ${words[verdict] ?? verdict} `, h("b", {}, named(b)),
    difference === null || difference === undefined ? "" : `: ${metric} differs by ${number(difference)}${range}`, h("span", { class: "muted" }, ` (by ${basis}${more ? `; ${grouped(more)} more seed${more === 1 ? "" : "s"} of each would ${basis === "seeds" ? "tell" : "show what is chance"}` : ""})`)];
}
