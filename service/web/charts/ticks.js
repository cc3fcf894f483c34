/** Where a logarithmic axis is marked: at powers of ten, and between them where these are few. */

const STEPS = [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5, 7]];
const FEWEST = 4;

/** @param {number} low @param {number} high both above 0 @returns {number[]} */
export function logTicks(low, high) {
  let found = [];
  for (const steps of STEPS) {
    found = marks(low, high, steps);
    if (found.length >= FEWEST) return found;
  }
  return found.length > 1 ? found : evenly(low, high);
}

function marks(low, high, steps) {
  const found = [];
  const decades = Math.log10(high) - Math.log10(low);
  const every = Math.max(1, Math.ceil(decades / 10));
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    if (power % every !== 0) continue;
    for (const step of steps) {
      const tick = Number(`${step}e${power}`);
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found;
}

/** So narrow a stretch that no round number need lie in it. */
function evenly(low, high) {
  return [0, 1, 2, 3].map((part) => Number((low + ((high - low) * part) / 3).toPrecision(4)));
}
