/** Ways to zoom a chart beside selecting a stretch: the wheel, the keyboard, and two fingers. */

/** @typedef {import("./chart.js").Chart} Chart */

const WHEEL = 1.2;
const KEY = 1 / 0.7;
const STEP = 0.2; // of the width

const KEYS = {
  "+": (chart) => zoomBy(chart, 1 / KEY), "-": (chart) => zoomBy(chart, KEY), 0: (chart) => chart.zoom(null, null),
  ArrowLeft: (chart) => move(chart, -STEP), ArrowRight: (chart) => move(chart, STEP),
};

/** @param {Chart} chart */
export function listen(chart) {
  chart.host.addEventListener("wheel", (event) => wheel(chart, event), { passive: false });
  chart.host.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act(chart);
  });
  pinch(chart);
}

/** Two fingers that go apart, or towards each other, zoom once they are lifted. @param {Chart} chart */
function pinch(chart) {
  const { host } = chart;
  /** @type {{ apart: number, middle: number }[]} the first and the last one of a gesture */
  let [first, last] = [null, null];
  const take = (event) => {
    if (event.touches.length !== 2) return;
    event.preventDefault(); // the browser would zoom the page
    const [one, other] = [...event.touches].map(({ clientX }) => clientX);
    last = { apart: Math.max(1, Math.abs(one - other)), middle: (one + other) / 2 };
    first ??= last;
  };
  const end = () => {
    if (!first) return;
    const { left, width } = chart.plot.over.getBoundingClientRect();
    zoomBy(chart, first.apart / last.apart, (first.middle - left) / width);
    [first, last] = [null, null];
  };
  host.addEventListener("touchstart", take, { passive: false });
  host.addEventListener("touchmove", take, { passive: false });
  host.addEventListener("touchend", end);
  host.addEventListener("touchcancel", end);
}

/** With Ctrl, or two fingers: a wheel alone scrolls the page. @param {Chart} chart @param {WheelEvent} event */
function wheel(chart, event) {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const { over } = chart.plot;
  const pointer = event.clientX - over.getBoundingClientRect().left;
  zoomBy(chart, event.deltaY > 0 ? WHEEL : 1 / WHEEL, pointer / over.clientWidth);
}

/** @param {Chart} chart @param {number} factor above 1 shows more @param {number} part of the width that stays where it is */
function zoomBy(chart, factor, part = 0.5) {
  const log = chart.options.logX;
  const back = log ? (value) => 10 ** value : (value) => value;
  const [low, high] = chart.range().map(log ? Math.log10 : (value) => value);
  const still = low + (high - low) * part;
  chart.zoom(back(still - (still - low) * factor), back(still + (high - still) * factor));
}

/** @param {Chart} chart @param {number} part of the width; negative is to the left */
function move(chart, part) {
  if (!chart.view) return;
  const [low, high] = chart.whole();
  const [from, to] = chart.view;
  const by = Math.max(low - from, Math.min(high - to, (to - from) * part));
  chart.zoom(from + by, to + by);
}
