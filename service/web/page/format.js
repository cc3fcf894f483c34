/** Numbers, times and sizes as people read them. */

/** So many significant digits; the words for what is not finite stay as they are. @param {any} value @param {number} [digits] */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return grouped(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  return size >= 1e4 && digits < 6 ? grouped(Math.round(value)) : String(Number(value.toPrecision(digits)));
}

const MOST_DIGITS = 12;

/** Numbers beside each other, with as many digits as tell them apart. @param {(number | null)[]} values */
export function apart(values) {
  for (let digits = 4; ; digits += 1) {
    const told = values.map((each) => (each === null ? "" : number(each, digits)));
    const words = told.filter(Boolean);
    if (digits === MOST_DIGITS || new Set(words).size === words.length) return told;
  }
}

/** "1 point", "2 points". @param {number} count @param {string} noun */
export function counted(count, noun) {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** A stretch of steps in words. @param {number} from @param {number} to */
export function steps(from, to) {
  return from === to ? `step ${grouped(from)}` : `steps ${grouped(from)} to ${grouped(to)}`;
}

/** 1 234 567: with narrow spaces, which no country takes for a point and no line breaks at. @param {number} value */
export function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${Math.floor(seconds % 60)} s`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number | null | undefined} count */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const power = count < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** power;
  return `${value < 10 && power ? value.toFixed(1) : Math.round(value)}\u00a0${UNITS[power]}`;
}

/** How long ago, or how soon. @param {string | null | undefined} moment RFC 3339 */
export function ago(moment) {
  if (!moment) return "–";
  const seconds = (Date.now() - Date.parse(moment)) / 1000;
  if (Math.abs(seconds) < 1.5) return "now";
  return seconds > 0 ? `${rough(seconds)} ago` : `in ${rough(-seconds)}`;
}

/** @param {number} seconds */
function rough(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

/** In the time of whoever reads. @param {string | null | undefined} moment RFC 3339 */
export function moment(moment) {
  return moment ? new Date(moment).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "–";
}

/** A value of a spec. @param {any} value */
export function value(value) {
  if (typeof value === "number") return number(value);
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The last part of a dotted name. @param {string} name */
export function short(name) {
  return name.slice(name.lastIndexOf(".") + 1);
}
