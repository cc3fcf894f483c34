/** A curve the size of a word. */

import { svg } from "../page/dom.js";
import { of } from "./line.js";

const [WIDTH, HEIGHT] = [120, 24];

/** @param {any} curve as the API answers it @param {string} label */
export function sparkline(curve, label) {
  const { y: column, beside } = of(curve);
  const finite = [...column].filter((each, place) => Number.isFinite(each) && !beside?.[place]);
  // A loss that fell by more than two decades would be a corner and a line.
  const values = Math.min(...finite) > 0 && Math.max(...finite) > 100 * Math.min(...finite) ? finite.map(Math.log) : finite;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (place) => (place / Math.max(1, values.length - 1)) * (WIDTH - 4) + 2;
  const y = (value) => HEIGHT - 3 - ((value - low) / (high - low || 1)) * (HEIGHT - 6);
  const points = values.map((value, place) => `${x(place).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return svg("svg", { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    svg("polyline", { points }), values.length ? svg("circle", { cx: x(values.length - 1), cy: y(values[values.length - 1]), r: 2 }) : null);
}
