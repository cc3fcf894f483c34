/** Curves as columns of numbers: made from answers, searched, and drawn on a canvas. */

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {Float64Array} x rising
 * @property {Float64Array} y
 * @property {Float64Array} [low] the lower edge of a band around the line
 * @property {Float64Array} [high]
 * @property {boolean} [soft] the band says how sure the line is: it may leave the chart
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
  return { x: numbers(x), y: numbers(y), step: numbers(step), ...(curve.downsampled && { low: numbers(min), high: numbers(max) }), ...rest };
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
  for (const { x, y, low: lower, high: upper, soft } of lines) {
    const banded = lower && upper && !soft;
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
  if (line.low && line.high) drawBand(context, line, frame, begin, end);
  if (line.scattered) return;
  context.globalAlpha = line.alpha ?? 1;
  context.strokeStyle = line.color;
  context.lineWidth = (line.width ?? 1.5) * frame.ratio;
  context.lineJoin = "round";
  context.setLineDash((line.dash ?? []).map((part) => part * frame.ratio));
  context.beginPath();
  let broken = true;
  for (let i = begin; i < end; i += 1) {
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

/** @param {CanvasRenderingContext2D} context @param {Line} line @param {Frame} frame @param {number} begin @param {number} end */
function drawBand(context, line, frame, begin, end) {
  context.beginPath();
  const edge = (value) => {
    const y = frame.y(value);
    return Number.isNaN(y) && !Number.isNaN(value) ? frame.bottom : y; // below 0 on a logarithmic axis
  };
  for (let i = begin; i < end; i += 1) lineTo(context, frame.x(line.x[i]), edge(line.high[i]));
  for (let i = end - 1; i >= begin; i -= 1) lineTo(context, frame.x(line.x[i]), edge(line.low[i]));
  context.globalAlpha = 0.16 * (line.alpha ?? 1);
  context.fillStyle = line.color;
  context.fill();
}

/** @param {CanvasRenderingContext2D} context */
function lineTo(context, x, y) {
  if (!Number.isNaN(y)) context.lineTo(x, Math.max(-FAR, Math.min(FAR, y)));
}

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
  const isAlone = (i) => !line.quiet && !Number.isFinite(frame.y(line.y[i - 1])) && !Number.isFinite(frame.y(line.y[i + 1]));
  context.globalAlpha = line.alpha ?? 1;
  context.fillStyle = line.color;
  context.strokeStyle = line.color;
  for (let i = begin; i < end; i += 1) {
    const [x, y] = [frame.x(line.x[i]), frame.y(line.y[i])];
    if (Number.isFinite(y) && (few || isAlone(i))) {
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
