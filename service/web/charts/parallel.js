/** Parallel coordinates: one upright axis a parameter, one line a run, coloured from the worst rank to the best. */

import { h, refill, svg } from "../page/dom.js";
import { number, short, value } from "../page/format.js";

const [WIDTH, HEIGHT, TOP, BOTTOM, SIDE] = [960, 300, 34, 20, 70];
const WIDE = 20; // times, from which numbers are placed by their logarithm
const APART = 13; // pixels, from which two values can be written beside an axis

/** @typedef {{ id: string, name: string, parameters: Record<string, any>, best: number | null }} Entry */

/**
 * @param {string} metric @param {"min" | "max" | "none"} direction
 * @param {string[]} names of parameters @param {Entry[]} entries
 */
export function parallel(metric, direction, names, entries) {
  const measured = entries.filter(({ best }) => typeof best === "number" && Number.isFinite(best));
  const axes = names.map((name) => axis(short(name), measured.map((entry) => entry.parameters[name])));
  axes.push(axis(metric, measured.map(({ best }) => best)));
  const left = (place) => SIDE + (place * (WIDTH - 2 * SIDE)) / Math.max(1, axes.length - 1);
  const told = h("p", { class: "muted", "aria-live": "polite" }, "Point at a line to read it.");
  const order = measured.map(({ best }) => best).sort((a, b) => (direction === "max" ? a - b : b - a));
  const lines = measured.map((entry, row) => {
    const good = order.indexOf(entry.best) / Math.max(1, order.length - 1); // by rank: one bad run would hide all differences
    const line = svg("polyline", {
      points: axes.map((each, place) => `${left(place)},${each.at[row]}`).join(" "),
      class: `ray rank-${Math.min(4, Math.floor(good * 5))}`,
      pointerenter: () => refill(told, `${entry.name}: ${[...names.map((name) => `${short(name)} ${value(entry.parameters[name])}`), `${metric} ${number(entry.best)}`].join(", ")}`),
    });
    return { good, line };
  });
  lines.sort((a, b) => a.good - b.good); // the best on top
  const label = `Parallel coordinates of ${measured.length} runs over ${names.map(short).join(", ")} and ${metric}`;
  return h("figure", { class: "parallel" },
    h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label },
      svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, lines.map(({ line }) => line), axes.map((each, place) => drawAxis(each, left(place))))),
    h("figcaption", {}, told));
}

/** Where each value stands: numbers by size, or by their logarithm where they span much; words in a row, which numbers among them begin. */
function axis(label, values) {
  const numeric = values.every((each) => typeof each === "number");
  if (!numeric) {
    const words = [...new Set([...values].sort(byNumber).map((each) => value(each)))];
    const at = (word) => spread(words.length === 1 ? 0.5 : words.indexOf(word) / (words.length - 1));
    return { label, at: values.map((each) => at(value(each))), ticks: legible(words.map((word) => [at(word), word])) };
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const turn = low > 0 && high / low > WIDE ? Math.log : (each) => each;
  const at = (each) => spread(high === low ? 0.5 : (turn(each) - turn(low)) / (turn(high) - turn(low)));
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  return { label, at: values.map(at), ticks: legible(distinct.map((each) => [at(each), number(each)])) };
}

/** Numbers by their size, before words in the order of the alphabet. */
function byNumber(a, b) {
  const [numeric, other] = [typeof a === "number", typeof b === "number"];
  if (numeric && other) return a - b;
  return numeric === other ? value(a).localeCompare(value(b)) : numeric ? -1 : 1;
}

/** All values from the lowest to the highest where there is room for each, else these two. @param {[number, string][]} ticks */
function legible(ticks) {
  const close = ticks.some(([y], place) => place && ticks[place - 1][0] - y < APART);
  return close ? [ticks[0], ticks.at(-1)] : ticks;
}

/** @param {number} part from the lower end to the upper */
function spread(part) {
  return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
}

function drawAxis({ label, ticks }, x) {
  return svg("g", { class: "axis" },
    svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }),
    svg("text", { x, y: 16, "text-anchor": "middle", class: "head" }, label),
    ticks.map(([y, text]) => svg("text", { x: x + 6, y: y + 4 }, text)));
}
