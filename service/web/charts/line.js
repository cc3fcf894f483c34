/** Curves as columns of numbers: made from answers, searched, and drawn on a canvas. */

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {Float64Array} x rising
 * @property {Float64Array} y
 * @property {Float64Array} [low] the lower edge of a band around the line
 * @property {Float64Array} [high]
 * @property {Uint8Array} [beside] 1 where an entry is a single point beside buckets: shown as a dot, and no part of the line
 * @property {boolean} [soft] the band says how sure the line is: it may leave the chart
 * @property {boolean} [veiled] the band is shown only while the line is pointed at
 * @property {Int32Array | Float64Array} [step]
 * @property {string} color
 * @property {number[]} [dash]
 * @property {number} [width] pixels of the screen
 * @property {number} [alpha]
 * @property {boolean} [quiet] not named by the pointer
 * @property {boolean} [scattered] points that no line connects
 *
 * @typedef {{ x: (value: number) => number, y: (value: number) => number, left: number, right: number, top: number, bottom: number, ratio: number }} Frame
 */

const LARGEST = 1e300; // what is larger is drawn no more than an infinity is: the span of the axis would overflow

/** A column of an answer; the words for what is not finite become such numbers again. @param {(number | string | null)[]} column */
export function numbers(column) {
  const made = new Float64Array(column.length);
  for (let i = 0; i < column.length; i += 1) made[i] = column[i] === null ? NaN : Number(column[i]);
  return made;
}

/** A line from the points of a curve. @param {any} curve as the API answers it @param {Partial<Line>} [rest] @returns {any} */
export function of(curve, rest = {}) {
  const { x, y, step, min, max } = curve.points;
  return { x: numbers(x), y: numbers(y), step: numbers(step), ...(curve.downsampled && { low: numbers(min), high: numbers(max), beside: single(curve) }), ...rest };
}

/** What is finite of the points beside buckets; a smoothed curve shows its average in their place. @param {any} curve */
function single({ points: { y, min }, beside }) {
  const marked = new Uint8Array(y.length);
  for (const place of beside) marked[place] = Number(typeof y[place] === "number" && y[place] === min[place]);
  return marked;
}

/** The first place whose x is not below a value. @param {Float64Array} x @param {number} value */
export function place(x, value) {
  let [low, high] = [0, x.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The place whose x is nearest to a value, or -1. @param {Float64Array} x @param {number} value */
export function nearest(x, value) {
  if (!x.length) return -1;
  const right = Math.min(place(x, value), x.length - 1);
  return right > 0 && value - x[right - 1] < x[right] - value ? right - 1 : right;
}

/**
 * The smallest and the largest finite value between two x, bands included; null when there is none.
 * @param {Line[]} lines @param {number} from @param {number} to @param {boolean} positive only values that a logarithmic axis can show
 */
export function extent(lines, from, to, positive) {
  let [low, high] = [Infinity, -Infinity];
  for (const { x, y, low: lower, high: upper, soft, veiled } of lines) {
    const banded = lower && upper && !soft && !veiled;
    const end = Math.min(x.length, place(x, to) + 1);
    for (let i = Math.max(0, place(x, from) - 1); i < end; i += 1) {
      for (const value of banded ? [y[i], lower[i], upper[i]] : [y[i]]) {
        if (Math.abs(value) <= LARGEST && (!positive || value > 0)) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    }
  }
  return low <= high ? [low, high] : null;
}

/** How many values a logarithmic axis has no place for. @param {Line[]} lines */
export function countBelow(lines) {
  return lines.reduce((sum, { y, quiet }) => (quiet ? sum : sum + y.filter((value) => value <= 0 && Number.isFinite(value)).length), 0);
}

/** Draws a line with its band, without its points. @param {CanvasRenderingContext2D} context @param {Line} line @param {Frame} frame */
export function draw(context, line, frame) {
  const end = Math.min(line.x.length, place(line.x, frame.right) + 1);
  const begin = Math.max(0, place(line.x, frame.left) - 1);
  if (line.low && line.high && !line.veiled) drawBand(context, line, frame, begin, end);
  if (line.scattered) return;
  context.globalAlpha = line.alpha ?? 1;
  context.strokeStyle = line.color;
  context.lineWidth = (line.width ?? 1.5) * frame.ratio;
  context.lineJoin = "round";
  context.setLineDash((line.dash ?? []).map((part) => part * frame.ratio));
  context.beginPath();
  let broken = true;
  for (let i = begin; i < end; i += 1) {
    if (line.beside?.[i]) continue;
    const y = frame.y(line.y[i]);
    if (!Number.isFinite(y)) broken = true;
    else if (broken) {
      context.moveTo(frame.x(line.x[i]), y);
      broken = false;
    } else context.lineTo(frame.x(line.x[i]), y);
  }
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/**
 * The stretch between the smallest and the largest value of each bucket, with a fine edge: a spike of a single step is no wider
 * than the edge, and would otherwise hardly be seen. The band ends where a value is not finite.
 * @param {CanvasRenderingContext2D} context @param {Line} line @param {Frame} frame @param {number} begin @param {number} end
 */
function drawBand(context, line, frame, begin, end) {
  context.beginPath();
  for (let from = begin, to; from < end; from = to + 1) {
    for (to = from; to < end && Number.isFinite(line.low[to]) && Number.isFinite(line.high[to]);) to += 1;
    tracePart(context, line, frame, from, to);
  }
  context.fillStyle = line.color;
  context.globalAlpha = BAND * (line.alpha ?? 1);
  context.fill();
  if (!line.soft) {
    context.strokeStyle = line.color;
    context.lineWidth = frame.ratio;
    context.lineJoin = "bevel"; // a miter would reach beyond the value
    context.globalAlpha = EDGE * (line.alpha ?? 1);
    context.stroke();
  }
}

/** @param {CanvasRenderingContext2D} context @param {Line} line @param {Frame} frame @param {number} from @param {number} to */
function tracePart(context, line, frame, from, to) {
  const corner = (i, value) => {
    if (line.beside?.[i]) return; // its bucket has it
    const y = frame.y(value);
    const shown = Number.isNaN(y) ? frame.bottom : y; // below 0 on a logarithmic axis
    const at = [frame.x(line.x[i]), Math.max(-FAR, Math.min(FAR, shown))];
    if (begun) context.lineTo(...at);
    else context.moveTo(...at);
    begun = true;
  };
  let begun = false;
  for (let i = from; i < to; i += 1) corner(i, line.high[i]);
  for (let i = to - 1; i >= from; i -= 1) corner(i, line.low[i]);
  if (begun) context.closePath();
}

const [BAND, EDGE] = [0.16, 0.4]; // how strong
const FAR = 1e6; // pixels: further out a canvas draws nothing
const FEW = 60;

/**
 * Draws single points: where there are few, and always those that no line can show.
 * @param {CanvasRenderingContext2D} context @param {Line} line @param {Frame} frame
 */
export function drawDots(context, line, frame) {
  const begin = place(line.x, frame.left);
  let end = place(line.x, frame.right);
  while (end < line.x.length && line.x[end] <= frame.right) end += 1;
  const few = line.scattered || (end - begin <= FEW && !line.quiet);
  const size = (line.scattered ? 3 : 2.2) * frame.ratio;
  const isApart = (i, by) => {
    while (line.beside?.[i + by]) i += by;
    return !Number.isFinite(frame.y(line.y[i + by]));
  };
  const isAlone = (i) => !line.quiet && isApart(i, -1) && isApart(i, 1);
  context.globalAlpha = line.alpha ?? 1;
  context.fillStyle = line.color;
  context.strokeStyle = line.color;
  for (let i = begin; i < end; i += 1) {
    const [x, y] = [frame.x(line.x[i]), frame.y(line.y[i])];
    if (Number.isFinite(y) && (few || line.beside?.[i] || isAlone(i))) {
      context.beginPath();
      context.arc(x, y, size, 0, 7);
      context.fill();
    } else if (!Number.isFinite(line.y[i])) drawCross(context, x, size + frame.top, size);
  }
  context.globalAlpha = 1;
}

/** Not a number, or infinite: a cross at the upper edge. */
function drawCross(context, x, y, size) {
  context.lineWidth = size / 1.5;
  context.beginPath();
  context.moveTo(x - size, y - size);
  context.lineTo(x + size, y + size);
  context.moveTo(x + size, y - size);
  context.lineTo(x - size, y + size);
  context.stroke();
}
