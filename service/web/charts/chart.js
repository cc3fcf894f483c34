/** A chart of lines. uPlot gives axes, pointer and selection; the lines are drawn here, each with an x of its own. */

import uPlot from "../vendor/uPlot.esm.js";
import { h } from "../page/dom.js";
import { number } from "../page/format.js";
import { draw, extent, nearest } from "./line.js";
import { color } from "./palette.js";
import { logTicks } from "./ticks.js";

/**
 * @typedef {import("./line.js").Line} Line
 * @typedef {{ x: number, label: string, to?: number, kind?: string }} Mark a moment, or a stretch up to `to`
 * @typedef {object} Options
 * @property {string} label what the chart shows, for those who cannot see it
 * @property {string} [xLabel]
 * @property {number} [height]
 * @property {boolean} [logX]
 * @property {boolean} [logY]
 * @property {(from: number | null, to: number | null) => void} [onZoom] both null: all of it
 */

const NAMED = 8; // lines that the pointer names at once; of more, the nearest one
const PADDING = 0.05;

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
    /** @type {[number, number] | null} all x, where the lines do not tell: they may be of a stretch alone */
    this.bounds = null;
    this.tip = h("div", { class: "tip", hidden: true });
    host.classList.add("chart");
    host.tabIndex = 0;
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", options.label);
    host.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    host.addEventListener("keydown", (event) => this.key(event));
    host.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.build();
    new ResizeObserver(() => this.resize()).observe(host);
    this.onTheme = () => (host.isConnected ? this.build() : removeEventListener("theme", this.onTheme));
    addEventListener("theme", this.onTheme);
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
    this.plot.batch(() => {
      this.plot.setScale("x", { min: from, max: to });
      this.plot.setScale("y", this.height(from, to));
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
    const room = (high - low) * PADDING || Math.abs(high) * PADDING || 1;
    return { min: low - room, max: high + room };
  }

  build() {
    this.plot?.destroy();
    const [grid, text] = [color("grid"), color("muted")];
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    const [from, to] = this.range();
    const values = (_plot, splits) => splits.map((each) => (each === null ? "" : number(each)));
    const marks = (on) => ({ values, ...(on && { splits: (_plot, _axis, low, high) => logTicks(low, high), filter: (_plot, splits) => splits }) });
    const log = (on) => (on ? { distr: 3, log: 10 } : {});
    this.plot = new uPlot({
      width: Math.max(120, this.host.clientWidth),
      height: this.options.height ?? 260,
      legend: { show: false },
      padding: [8, 12, 0, 0],
      scales: {
        x: { time: false, ...log(this.options.logX), range: (_plot, low, high) => [low, high] },
        y: { ...log(this.options.logY), range: (_plot, low, high) => [low, high] },
      },
      series: [{}, { scale: "y", paths: () => null, points: { show: false } }],
      axes: [
        { ...axis, ...marks(this.options.logX), size: 24, label: this.options.xLabel, labelSize: 16, labelFont: axis.font, labelGap: 0 },
        { ...axis, ...marks(this.options.logY), size: 58 },
      ],
      cursor: {
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => { this.zoom(null, null); return null; } },
        points: { show: false },
        y: false,
      },
      hooks: { drawClear: [(plot) => this.drawMarks(plot)], draw: [(plot) => this.drawLines(plot)], setSelect: [(plot) => this.selected(plot)], setCursor: [(plot) => this.point(plot)] },
    }, [[from, to], [null, null]], this.host);
    this.plot.root.append(this.tip);
    this.refresh();
  }

  resize() {
    const width = this.host.clientWidth;
    if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.options.height ?? 260 });
  }

  /** How values become pixels of the canvas. @param {any} plot */
  frame(plot) {
    const { left, top, width, height } = plot.bbox;
    const scale = (name, log, length, turned) => {
      const turn = log ? Math.log10 : (value) => value;
      const [low, high] = [turn(plot.scales[name].min), turn(plot.scales[name].max)];
      const factor = length / (high - low);
      return turned ? (value) => top + (high - turn(value)) * factor : (value) => left + (turn(value) - low) * factor;
    };
    return {
      x: scale("x", this.options.logX, width, false),
      y: scale("y", this.options.logY, height, true),
      left: plot.scales.x.min, right: plot.scales.x.max, top, ratio: uPlot.pxRatio,
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
    for (const line of this.lines) {
      const faded = this.focused && this.focused !== line;
      draw(context, faded ? { ...line, low: undefined, alpha: 0.15 } : line, frame);
    }
    if (this.focused && this.lines.includes(this.focused)) draw(context, { ...this.focused, width: 2.5 }, frame);
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

  /** With Ctrl, or two fingers: a wheel alone scrolls the page. @param {WheelEvent} event */
  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const pointer = event.clientX - this.plot.over.getBoundingClientRect().left;
    this.zoomBy(1.2 ** (event.deltaY > 0 ? 1 : -1), pointer / this.plot.over.clientWidth);
  }

  /** @param {number} factor above 1 shows more @param {number} part of the width that stays where it is */
  zoomBy(factor, part = 0.5) {
    const log = this.options.logX;
    const turn = log ? Math.log10 : (value) => value;
    const back = log ? (value) => 10 ** value : (value) => value;
    const [low, high] = this.range().map(turn);
    const still = low + (high - low) * part;
    this.zoom(back(still - (still - low) * factor), back(still + (high - still) * factor));
  }

  /** @param {number} part of the width; negative is to the left */
  move(part) {
    if (!this.view) return;
    const [low, high] = this.whole();
    const [from, to] = this.view;
    const by = Math.max(low - from, Math.min(high - to, (to - from) * part));
    this.zoom(from + by, to + by);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const acts = { "+": () => this.zoomBy(0.7), "-": () => this.zoomBy(1 / 0.7), ArrowLeft: () => this.move(-0.2), ArrowRight: () => this.move(0.2), 0: () => this.zoom(null, null) };
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  /** @param {Line | null} line */
  focus(line) {
    if (this.focused === line) return;
    this.focused = line;
    this.plot.redraw(false, false);
  }

  /** Names what is under the pointer. */
  point(plot) {
    const { left, top } = plot.cursor;
    const x = left >= 0 ? plot.posToVal(left, "x") : NaN;
    const named = Number.isFinite(x) ? this.under(plot, x, top) : [];
    this.tip.hidden = named.length === 0;
    if (this.tip.hidden) return;
    this.tip.replaceChildren(
      h("p", { class: "muted" }, `${this.options.xLabel ?? "x"} ${number(named[0].x)}`),
      ...named.map(({ line, y }) => tipLine(line, y)),
      ...this.marksAt(plot, left).map((mark) => h("p", { class: "muted" }, mark.label)));
    const right = left > plot.over.clientWidth / 2;
    this.tip.style.left = right ? "auto" : `${plot.over.offsetLeft + left + 14}px`;
    this.tip.style.right = right ? `${this.host.clientWidth - plot.over.offsetLeft - left + 14}px` : "auto";
    this.tip.style.top = `${plot.over.offsetTop + 6}px`;
  }

  /** The values of the lines at an x; of many lines, the nearest to the pointer. */
  under(plot, x, top) {
    const found = this.lines.filter((line) => !line.quiet).map((line) => {
      const place = nearest(line.x, x);
      return { line, x: line.x[place], y: line.y[place] };
    }).filter(({ x: at }) => at !== undefined);
    if (found.length <= NAMED) return found;
    const away = ({ y }) => Math.abs(plot.valToPos(y, "y") - top);
    return [found.reduce((best, each) => (away(each) < away(best) ? each : best))];
  }

  marksAt(plot, left) {
    const near = (mark) => Math.abs(plot.valToPos(mark.x, "x") - left) < 4;
    const within = (mark) => mark.to !== undefined && plot.valToPos(mark.x, "x") <= left && left <= plot.valToPos(mark.to, "x");
    return this.marks.filter((mark) => near(mark) || within(mark)).slice(0, 4);
  }
}

/** @param {Line} line @param {number} y */
function tipLine(line, y) {
  const dot = h("i", {});
  dot.style.background = line.color;
  return h("p", {}, dot, h("span", {}, line.label), h("b", {}, number(y)));
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
