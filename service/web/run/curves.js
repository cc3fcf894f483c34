/** The charts of one run: what belongs together in one of them, all with the same axis and the same stretch of it. */

import { below, download, find } from "../api/client.js";
import { Chart } from "../charts/chart.js";
import * as line from "../charts/line.js";
import { look } from "../charts/palette.js";
import { choice, h, refill } from "../page/dom.js";
import { counted, number, steps } from "../page/format.js";
import { notice, tell } from "../page/notices.js";
import { settled, throttled } from "../page/polling.js";
import { remember } from "../page/route.js";

export const AXES = ["step", "epoch", "samples", "time", "gpu_seconds"];
export const COUNTED = ["step", "samples"]; // axes with nothing between whole numbers
export const AXIS_LABELS = { step: "step", epoch: "epochs", samples: "samples", time: "seconds of training", gpu_seconds: "GPU seconds" };
const POINTS = 1000;
const SCORES = /^val_(accuracy|recall|precision|f1)$/;
const MARKED = ["Loss", "Validation"]; // findings and checkpoints are about these
const FALLING = /(loss|grad_norm|perplexity)$/; // what a logarithmic axis is for
const FLUSH = 400; // milliseconds between two looks at a run that is training

/** @typedef {{ metrics: string[], title: string }} Group */

/** What goes into one chart. @param {string[]} names @returns {Group[]} */
function groups(names) {
  const losses = names.filter((name) => name.endsWith("loss"));
  const scores = names.filter((name) => SCORES.test(name));
  const alone = names.filter((name) => !losses.includes(name) && !scores.includes(name));
  const made = [{ title: "Loss", metrics: losses }, { title: "Validation", metrics: scores }, ...alone.map((name) => ({ title: name, metrics: [name] }))];
  return made.filter(({ metrics }) => metrics.length);
}

export class Curves {
  /** @param {string} id @param {URLSearchParams} query @param {AbortSignal} signal */
  constructor(id, query, signal) {
    this.path = below("/v1/runs", id, "curves");
    this.signal = signal;
    this.id = id;
    this.x = AXES.includes(query.get("x")) ? query.get("x") : "step";
    this.logX = query.has("logx");
    this.logY = query.has("logy");
    this.smooth = Math.min(0.99, Number(query.get("smooth")) || 0);
    this.band = !query.has("noband");
    /** @type {{ from: number, to: number } | null} steps */
    this.steps = query.has("from") ? { from: Number(query.get("from")), to: Number(query.get("to")) } : null;
    /** @type {Map<string, { chart: Chart, group: Group, note: HTMLElement }>} */
    this.charts = new Map();
    /** @type {import("../charts/chart.js").Mark[]} in steps */
    this.marks = [];
    this.host = h("div", { class: "charts" });
    this.element = h("section", {}, this.controls(), this.host);
    this.again = throttled(FLUSH, () => this.fetch().catch(() => {}));
    this.fetchSettled = settled(60, () => this.fetch().catch(tell));
  }

  controls() {
    const shown = h("output", {}, this.smooth.toFixed(2));
    const slide = (event) => {
      this.smooth = Number(event.target.value);
      refill(shown, this.smooth.toFixed(2));
      this.changed({ smooth: this.smooth || null });
    };
    const box = (text, checked, change) => h("label", { class: "check" }, h("input", { type: "checkbox", checked, change: (event) => change(event.target.checked) }), ` ${text}`);
    return h("div", { class: "row controls" },
      choice("x", AXES.map((each) => [each, AXIS_LABELS[each]]), this.x, (chosen) => { this.x = chosen; this.axes({ x: chosen === "step" ? null : chosen }); }),
      box("log x", this.logX, (on) => { this.logX = on; this.axes({ logx: on ? 1 : null }); }),
      box("log y", this.logY, (on) => { this.logY = on; this.axes({ logy: on ? 1 : null }); }),
      box("envelope", this.band, (on) => { this.band = on; this.changed({ noband: on ? null : 1 }); }),
      h("label", { class: "field" }, h("span", {}, "smoothing"), h("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: this.smooth, input: slide }), shown),
      h("button", { class: "quiet", click: () => this.zoom(null, null) }, "All of it"),
      h("button", { class: "quiet", click: () => this.picture() }, "PNG"));
  }

  /** The calls that the charts show. */
  calls() {
    return [...this.charts.values()].map(({ group }) => ({ path: this.path, query: this.query(group.metrics, this.smooth) }));
  }

  query(metric, smooth) {
    return { metric, x: this.x, points: POINTS, smooth: smooth || null, from: this.steps?.from, to: this.steps?.to };
  }

  async picture() {
    const first = [...this.charts.values()][0];
    if (!first) return notice("There is no curve yet.");
    return download(this.path, `${this.id}.png`, { ...this.query(first.group.metrics, this.smooth), format: "png" }).catch(tell);
  }

  changed(state) {
    remember(state);
    this.fetchSettled();
  }

  axes(state) {
    for (const { chart, group } of this.charts.values()) chart.change(this.options(group));
    this.changed(state);
  }

  /** @param {Group} group */
  options(group) {
    const logY = this.logY && group.metrics.every((name) => FALLING.test(name));
    return { label: `${group.metrics.join(", ")} over ${AXIS_LABELS[this.x]}`, xLabel: AXIS_LABELS[this.x], wholeX: COUNTED.includes(this.x), logX: this.logX, logY };
  }

  /** Makes room for the metrics that there are. @param {string[]} names */
  setMetrics(names) {
    for (const group of groups(names)) {
      const known = this.charts.get(group.title);
      if (known) known.group = group;
      else this.charts.set(group.title, this.make(group));
    }
  }

  /** @param {Group} group */
  make(group) {
    const host = h("div");
    const note = h("p", { class: "muted note" });
    this.host.append(h("figure", { class: `panel ${group.title === "Loss" ? "first" : ""}` }, h("figcaption", {}, h("h2", {}, group.title), note), host));
    const chart = new Chart(host, { ...this.options(group), height: group.title === "Loss" ? 340 : 200, onZoom: (from, to) => this.zoom(from, to, chart) });
    return { chart, group, note };
  }

  /** @param {import("../charts/chart.js").Mark[]} marks in steps */
  setMarks(marks) {
    this.marks = marks;
    this.again();
  }

  /** A stretch of x of one chart becomes one of steps, of which all charts fetch their points. */
  zoom(from, to, chart) {
    this.steps = from === null || to === null ? null : stepsBetween(chart.lines, from, to);
    remember({ from: this.steps?.from ?? null, to: this.steps?.to ?? null });
    this.fetchSettled();
  }

  /** @param {number} from @param {number} to steps */
  zoomToSteps(from, to) {
    const room = Math.max(1, Math.round((to - from) / 4));
    this.steps = { from: Math.max(1, from - room), to: to + room };
    remember(this.steps);
    this.fetchSettled();
  }

  async fetch() {
    await Promise.all([...this.charts.values()].map((each) => this.fill(each)));
  }

  async fill(part) {
    const { chart, group, note } = part;
    const asked = [find(this.path, this.query(group.metrics, this.smooth), this.signal)];
    if (this.smooth) asked.push(find(this.path, this.query(group.metrics, 0), this.signal));
    part.round = (part.round ?? 0) + 1;
    const round = part.round;
    const [shown, raw] = await Promise.all(asked);
    if (round !== part.round || this.signal.aborted || !shown) return; // another was asked for meanwhile
    const lines = [];
    shown.data.forEach((curve, place) => {
      const style = look(place);
      if (raw) lines.push(line.of(raw.data[place], { ...style, label: `${curve.metric}, raw`, alpha: 0.45, width: 1, quiet: true, ...(!this.band && { low: undefined, high: undefined }) }));
      lines.push(line.of(curve, { ...style, label: curve.metric, ...((raw || !this.band) && { low: undefined, high: undefined }) }));
    });
    chart.view = null; // the answer has just the stretch that is shown
    chart.show(lines, MARKED.includes(group.title) ? this.marksOn(lines) : []);
    chart.host.setAttribute("aria-label", `${this.options(group).label}: ${shown.data.map(told).join("; ")}`);
    const legends = shown.data.map((curve, place) => legend(group.metrics.length > 1 ? curve.metric : "", curve.count, lines[raw ? 2 * place + 1 : place].color));
    refill(note, legends, this.steps ? ` ${steps(this.steps.from, this.steps.to)}` : "", chart.options.logY ? below0(lines) : "");
  }

  /** Marks where the points with their steps are. */
  marksOn(lines) {
    const [guide] = lines.slice().sort((a, b) => b.x.length - a.x.length);
    if (!guide?.x.length) return [];
    const [first, last] = [guide.step[0], guide.step[guide.step.length - 1]];
    const at = (step) => guide.x[line.nearest(guide.step, step)];
    return this.marks.filter(({ x, to }) => (to ?? x) >= first && x <= last).map((mark) => ({ ...mark, x: at(mark.x), ...(mark.to !== undefined && { to: at(mark.to) }) }));
  }
}

/** What a logarithmic axis leaves out. @param {import("../charts/line.js").Line[]} lines */
export function below0(lines) {
  const left = line.countBelow(lines);
  return left ? ` ${counted(left, "value")} of 0 or below ${left === 1 ? "is" : "are"} not shown on this axis` : "";
}

/** @param {any} curve */
function told({ metric, count, points }) {
  return count ? `${metric}, ${counted(count, "point")}, from ${number(points.y[0])} to ${number(points.y.at(-1))}` : `${metric}, no points yet`;
}

function legend(name, count, color) {
  const dot = h("i", { class: "dot" });
  dot.style.background = color;
  return h("span", { class: "legend" }, dot, name, h("span", { class: "muted" }, ` ${counted(count, "point")}`));
}

/** The steps of the points within a stretch of x. @param {any[]} lines */
function stepsBetween(lines, from, to) {
  const [guide] = lines.slice().sort((a, b) => b.x.length - a.x.length);
  if (!guide?.x.length) return null;
  const first = Math.max(0, line.place(guide.x, from) - 1);
  const last = Math.min(guide.x.length - 1, line.place(guide.x, to));
  return { from: guide.step[first], to: guide.step[last] };
}
