/** A chart of lines. uPlot gives axes, pointer and selection; the lines are drawn here, each with an x of its own. */

import uPlot from "../vendor/uPlot.esm.js";
import { apart } from "../page/format.js";
import { draw, drawDots, extent } from "./line.js";
import { color } from "./palette.js";
import { logTicks } from "./ticks.js";
import { Tip } from "./tip.js";
import { listen } from "./zooming.js";

/**
 * @typedef {import("./line.js").Line} Line
 * @typedef {{ x: number, label: string, to?: number, kind?: string }} Mark a moment, or a stretch up to `to`
 * @typedef {object} Options
 * @property {string} label what the chart shows, for those who cannot see it
 * @property {string} [xLabel]
 * @property {number} [height]
 * @property {boolean} [wholeX] x counts: no marks between whole numbers
 * @property {[number, string][]} [xTicks] where x is marked, and how; elsewhere it is not
 * @property {boolean} [logX]
 * @property {boolean} [logY]
 * @property {(from: number | null, to: number | null) => void} [onZoom] both null: all of it
 */

const PADDING = 0.05;
const ALMOST = 1e-9; // of a size: what is lost to rounding
const [HUGE, TINY] = [1e12, 1e-9]; // sizes beyond which uPlot knows no marks
const WHOLE = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();
const BESIDE = 38; // pixels that a mark of one's own needs
const EDGE = 5; // pixels that points may stand beyond the frame

export class Chart {
  /** @param {HTMLElement} host @param {Options} options */
  constructor(host, options) {
    this.host = host;
    this.options = options;
    /** @type {Line[]} */
    this.lines = [];
    /** @type {Mark[]} */
    this.marks = [];
    /** @type {number | null} */
    this.target = null;
    /** @type {Line | null} */
    this.focused = null;
    /** @type {[number, number] | null} the x shown; null is all */
    this.view = null;
    this.unit = 1; // of the y scale; all else is in the lines' own
    /** @type {[number, number] | null} all x, where the lines do not tell: they may be of a stretch alone */
    this.bounds = null;
    this.tip = new Tip(this);
    host.classList.add("chart");
    host.tabIndex = 0;
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", options.label);
    listen(this);
    this.build();
    new ResizeObserver(() => this.resize()).observe(host);
    redrawWithTheme(this);
  }

  /** @param {Line[]} lines @param {Mark[]} [marks] @param {number | null} [target] a height that is aimed at */
  show(lines, marks = [], target = null) {
    Object.assign(this, { lines, marks, target });
    this.refresh();
  }

  /** @param {Partial<Options>} options */
  change(options) {
    Object.assign(this.options, options);
    this.host.setAttribute("aria-label", this.options.label);
    this.build();
  }

  /** @param {[number, number] | null} view the x shown; null is all */
  look(view) {
    this.view = view;
    this.refresh();
  }

  refresh() {
    const [from, to] = this.range();
    const { min, max } = this.height(from, to);
    const size = Math.max(Math.abs(min), Math.abs(max));
    this.unit = !this.options.logY && (size >= HUGE || size < TINY) ? 10 ** Math.floor(Math.log10(size)) : 1;
    this.plot.batch(() => {
      this.plot.setScale("x", { min: from, max: to });
      this.plot.setScale("y", { min: min / this.unit, max: max / this.unit });
    });
    this.plot.redraw(false, true);
  }

  /** All that is shown when nothing is left out. @returns {[number, number]} */
  whole() {
    if (this.bounds) return this.bounds;
    let [low, high] = [Infinity, -Infinity];
    for (const { x } of this.lines) {
      let first = 0;
      while (this.options.logX && first < x.length && x[first] <= 0) first += 1;
      if (first >= x.length) continue;
      low = Math.min(low, x[first]);
      high = Math.max(high, x[x.length - 1]);
    }
    if (low > high) return this.options.logX ? [1, 10] : [0, 1];
    if (low === high) return this.options.logX ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    return [low, high];
  }

  range() {
    return this.view ?? this.whole();
  }

  /** @param {number} from @param {number} to */
  height(from, to) {
    const log = Boolean(this.options.logY);
    const found = extent(this.lines, from, to, log) ?? (log ? [0.1, 1] : [0, 1]);
    let [low, high] = found;
    if (this.target !== null && (!log || this.target > 0)) [low, high] = [Math.min(low, this.target), Math.max(high, this.target)];
    if (log) return { min: low / 1.15, max: high * 1.15 };
    const flat = high - low <= ALMOST * Math.max(Math.abs(low), Math.abs(high));
    const room = (flat ? Math.abs(high) : high - low) * PADDING || 1;
    return { min: low - room, max: high + room };
  }

  build() {
    this.plot?.destroy();
    const [grid, text] = [color("grid"), color("muted")];
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    const [from, to] = this.range();
    const marks = (on) => ({ ...(on && { splits: (_plot, _axis, low, high) => logTicks(low, high), filter: (_plot, splits) => splits }) });
    const across = { values: (_plot, splits) => apart(splits), ...(this.options.xTicks ? this.ownTicks(this.options.xTicks) : marks(this.options.logX)), ...(this.options.wholeX && { incrs: WHOLE }) };
    const upward = { values: (_plot, splits) => apart(splits.map((each) => (each === null ? null : each * this.unit))), ...marks(this.options.logY) };
    const log = (on) => (on ? { distr: 3, log: 10 } : {});
    this.plot = new uPlot({
      width: Math.max(120, this.host.clientWidth),
      height: this.options.height ?? 260,
      legend: { show: false },
      padding: [8, 32, 0, 0],
      scales: {
        x: { time: false, ...log(this.options.logX), range: (_plot, low, high) => [low, high] },
        y: { ...log(this.options.logY), range: (_plot, low, high) => [low, high] },
      },
      series: [{}, { scale: "y", paths: () => null, points: { show: false } }],
      axes: [
        { ...axis, ...across, size: 24, label: this.options.xLabel, labelSize: 16, labelFont: axis.font, labelGap: 0 },
        { ...axis, ...upward, size: 58 },
      ],
      cursor: {
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => { this.zoom(null, null); return null; } },
        points: { show: false },
        y: false,
      },
      hooks: { drawClear: [(plot) => this.drawMarks(plot)], draw: [(plot) => this.drawLines(plot)], setSelect: [(plot) => this.selected(plot)], setCursor: [() => this.tip.follow()] },
    }, [[from, to], [null, null]], this.host);
    this.plot.root.append(this.tip.element);
    this.refresh();
  }

  /** @param {[number, string][]} ticks */
  ownTicks(ticks) {
    const told = new Map(ticks);
    const at = (plot, x) => plot.valToPos(x, "x");
    const room = (plot, kept, x) => (kept.length && at(plot, x) - at(plot, kept.at(-1)) < BESIDE ? kept : [...kept, x]);
    const splits = (plot, _axis, low, high) => ticks.map(([x]) => x).filter((x) => x >= low && x <= high).reduce((kept, x) => room(plot, kept, x), []);
    return { splits, filter: (_plot, found) => found, values: (_plot, found) => found.map((x) => told.get(x) ?? "") };
  }

  resize() {
    const width = this.host.clientWidth;
    if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.options.height ?? 260 });
  }

  /** How values become pixels of the canvas. @param {any} plot */
  frame(plot) {
    const { left, top, width, height } = plot.bbox;
    const scale = (name, log, length, turned) => {
      const unit = turned ? this.unit : 1;
      const turn = log ? Math.log10 : (value) => value / unit;
      const [low, high] = [plot.scales[name].min, plot.scales[name].max].map((end) => turn(end * unit));
      const factor = length / (high - low);
      return turned ? (value) => top + (high - turn(value)) * factor : (value) => left + (turn(value) - low) * factor;
    };
    return {
      x: scale("x", this.options.logX, width, false),
      y: scale("y", this.options.logY, height, true),
      left: plot.scales.x.min, right: plot.scales.x.max, top, bottom: top + height, ratio: uPlot.pxRatio,
    };
  }

  drawLines(plot) {
    const { ctx: context, bbox } = plot;
    context.save();
    context.beginPath();
    context.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    context.clip();
    const frame = this.frame(plot);
    if (this.target !== null) drawTarget(context, bbox, frame.y(this.target), frame.ratio);
    const seen = this.lines.map((line) => (this.focused && this.focused !== line ? { ...line, low: undefined, alpha: 0.15 } : line));
    if (this.focused && this.lines.includes(this.focused)) seen.push({ ...this.focused, width: 2.5, veiled: false });
    for (const line of seen) draw(context, line, frame);
    context.restore();
    context.save();
    context.beginPath();
    const edge = EDGE * frame.ratio;
    context.rect(bbox.left - edge, bbox.top - edge, bbox.width + 2 * edge, bbox.height + 2 * edge);
    context.clip();
    for (const line of seen) drawDots(context, line, frame);
    context.restore();
  }

  drawMarks(plot) {
    const { ctx: context, bbox } = plot;
    const frame = this.frame(plot);
    context.save();
    context.beginPath();
    context.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    context.clip();
    for (const mark of this.marks) {
      const [from, to] = [frame.x(mark.x), frame.x(mark.to ?? mark.x)];
      context.fillStyle = color(mark.kind ?? "mark");
      context.globalAlpha = mark.to === undefined ? 0.9 : 0.1;
      context.fillRect(from, bbox.top, Math.max(frame.ratio, to - from), bbox.height);
    }
    context.restore();
  }

  /** A stretch was selected with the pointer. */
  selected(plot) {
    const { left, width } = plot.select;
    if (width > 3) this.zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
    if (width > 0) plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  }

  /** @param {number | null} from @param {number | null} to */
  zoom(from, to) {
    const [low, high] = this.whole();
    const all = from === null || to === null || (from <= low && to >= high);
    this.look(all ? null : [Math.max(low, from), Math.min(high, to)]);
    this.options.onZoom?.(...(this.view ?? [null, null]));
  }

  /** @param {Line | null} line */
  focus(line) {
    if (this.focused === line) return;
    this.focused = line;
    this.plot.redraw(false, false);
  }
}

/** @param {CanvasRenderingContext2D} context */
function drawTarget(context, bbox, y, ratio) {
  context.strokeStyle = color("bad");
  context.lineWidth = ratio;
  context.setLineDash([6 * ratio, 4 * ratio]);
  context.beginPath();
  context.moveTo(bbox.left, y);
  context.lineTo(bbox.left + bbox.width, y);
  context.stroke();
  context.setLineDash([]);
}

/** Weakly: a chart that was left would otherwise be kept, with its points, for as long as the tab. @param {Chart} chart */
function redrawWithTheme(chart) {
  const held = new WeakRef(chart);
  const redraw = () => {
    const there = held.deref();
    if (there?.host.isConnected) there.build();
    else removeEventListener("theme", redraw);
  };
  addEventListener("theme", redraw);
}
