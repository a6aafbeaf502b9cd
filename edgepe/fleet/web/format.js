// Figures as people read them: always with a unit, three significant digits, never a bare NaN.

export const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function digits(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** Microseconds → "812 µs", "1.24 ms", "2.10 s". */
export function duration(us) {
  if (!isNumber(us)) return NONE;
  if (us < 1000) return `${us < 10 ? digits(us) : us.toFixed(0)} µs`;
  return us < 999_500 ? `${digits(us / 1000)} ms` : `${digits(us / 1e6)} s`;
}

/** Bytes → "512 B", "41.2 MiB". */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (value >= 1024 && step < units.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${step === 0 ? value.toFixed(0) : digits(value)} ${units[step]}`;
}

/** A count with thin spaces between thousands. */
export function count(value) {
  if (!isNumber(value)) return NONE;
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Events per second → "59.8 /s". */
export function rate(value) {
  return isNumber(value) ? `${value === 0 || value >= 1000 ? count(value) : digits(value)} /s` : NONE;
}

/** Thousandths of a degree → "51.2 °C"; a board without a sensor has none. */
export function celsius(thousandths) {
  return isNumber(thousandths) ? `${(thousandths / 1000).toFixed(1)} °C` : NONE;
}

/** How long ago, in one unit. `now` is a parameter: the caller owns the clock. */
export function ago(ms, now) {
  if (!isNumber(ms) || ms <= 0) return "never";
  const seconds = Math.max(0, Math.round((now - ms) / 1000));
  if (seconds < 3) return "just now";
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} d ago`;
}

/** Local wall-clock time, "14:03:27". */
export function clock(ms) {
  if (!isNumber(ms)) return NONE;
  const time = new Date(ms);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}
