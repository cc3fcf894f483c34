/** Colours that tell lines apart also for the colour-blind, on light and on dark; beyond them, dashes. */

export const COLORS = 8;
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4], [4, 2, 1, 2, 1, 2], [1, 2]];

/** What the style sheet calls a colour. @param {string} name */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The look of a line by its place: 56 that differ. @param {number} place */
export function look(place) {
  return { color: color(`line-${(place % COLORS) + 1}`), dash: DASHES[Math.floor(place / COLORS) % DASHES.length] };
}

/** A short piece of a line for legends. @param {number} place @param {(tag: string, attributes?: any, ...children: any[]) => any} svg */
export function swatch(place, svg) {
  const { dash } = look(place);
  return svg("svg", { class: `swatch line-${(place % COLORS) + 1}`, viewBox: "0 0 24 8", "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 24, y1: 4, y2: 4, "stroke-dasharray": dash.length ? dash.map((part) => part / 1.5).join(" ") : null }));
}
