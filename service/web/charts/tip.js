/** What a chart says of the place under the pointer. */

import { h } from "../page/dom.js";
import { number } from "../page/format.js";
import { nearest } from "./line.js";

const NAMED = 8; // lines that are named at once; of more, the nearest one
const NEAR = 4; // pixels from a mark

export class Tip {
  /** @param {import("./chart.js").Chart} chart */
  constructor(chart) {
    this.chart = chart;
    this.element = h("div", { class: "tip", hidden: true });
    chart.host.addEventListener("pointerleave", () => { this.element.hidden = true; });
  }

  /** Goes to where the pointer is, and names what is there. */
  follow() {
    const { plot, options, host } = this.chart;
    const { left, top } = plot.cursor;
    const x = left >= 0 ? plot.posToVal(left, "x") : NaN;
    const named = Number.isFinite(x) ? under(this.chart, x, top) : [];
    this.element.hidden = named.length === 0;
    if (this.element.hidden) return;
    this.element.replaceChildren(
      h("p", { class: "muted" }, `${options.xLabel ?? "x"} ${number(named[0].x)}`),
      ...named.map(({ line, y, range }) => told(line, y, range)),
      ...marksAt(this.chart, left).map((mark) => h("p", { class: "muted" }, mark.label)));
    const { offsetLeft, offsetTop, clientWidth } = plot.over;
    const right = left > clientWidth / 2;
    this.element.style.left = right ? "auto" : `${offsetLeft + left + 14}px`;
    this.element.style.right = right ? `${host.clientWidth - offsetLeft - left + 14}px` : "auto";
    this.element.style.top = `${offsetTop + 6}px`;
  }
}

/** The values of the lines at an x; of many lines, the nearest to the pointer. */
function under({ plot, lines, unit }, x, top) {
  const found = lines.filter((line) => !line.quiet).map((line) => {
    const place = nearest(line.x, x);
    return { line, x: line.x[place], y: line.y[place], range: [line.low?.[place], line.high?.[place]] };
  }).filter(({ x: at }) => at !== undefined);
  if (found.length <= NAMED) return found;
  const away = ({ y }) => Math.abs(plot.valToPos(y / unit, "y") - top);
  return [found.reduce((best, each) => (away(each) < away(best) ? each : best))];
}

function marksAt({ plot, marks }, left) {
  const at = (x) => plot.valToPos(x, "x");
  return marks.filter(({ x, to }) => Math.abs(at(x) - left) < NEAR || (to !== undefined && at(x) <= left && left <= at(to))).slice(0, 4);
}

/** @param {import("./line.js").Line} line @param {number} y @param {(number | undefined)[]} range of what it stands for */
function told(line, y, [low, high]) {
  const dot = h("i", {});
  dot.style.background = line.color;
  return h("p", {}, dot, h("span", {}, line.label), h("b", {}, number(y)), low < high ? h("span", { class: "muted range" }, `${number(low)} to ${number(high)}`) : null);
}
