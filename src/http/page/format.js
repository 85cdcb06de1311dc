// Numbers, sizes and times as people read them. What is not known is a dash.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });

export const NOTHING = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

export const count = (n) => (known(n) ? whole.format(n) : NOTHING);

/** With few digits, for where there is little room. */
export const brief = (n) => (known(n) ? (Math.abs(n) < 10_000 ? whole.format(n) : short.format(n)) : NOTHING);

/** At the side of a drawing, where steps may be parts of one. */
export const tick = (n) => (Number.isInteger(n) ? brief(n) : tenths.format(n));

/** A second: small ones with a tenth, else a trickle would read as nothing. */
export const rate = (n) => {
  if (!known(n)) return NOTHING;
  return n > 0 && n < 10 ? tenths.format(n) : whole.format(n);
};

export const percent = (part, of) => {
  if (!known(part) || !known(of) || of <= 0) return NOTHING;
  const fraction = part / of;
  // Neither empty nor full until it is.
  if (fraction > 0 && fraction < 0.01) return "under 1%";
  return share.format(fraction < 1 ? Math.min(fraction, 0.99) : fraction);
};

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export const bytes = (n) => {
  if (!known(n)) return NOTHING;
  let unit = 0;
  let size = n;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit > 0 && size < 100 ? tenths.format(size) : whole.format(size)} ${UNITS[unit]}`;
};

/** A length of time, by its two largest units. */
export const span = (seconds) => {
  if (!known(seconds)) return NOTHING;
  const s = Math.max(0, seconds);
  if (s < 10) return `${tenths.format(s)} s`;
  if (s < 60) return `${whole.format(Math.floor(s))} s`;
  const two = (large, of, small, unit) => {
    const rest = Math.floor((s % of) / unit);
    return rest ? `${whole.format(Math.floor(s / of))} ${large} ${rest} ${small}` : `${whole.format(Math.floor(s / of))} ${large}`;
  };
  if (s < 3600) return two("min", 60, "s", 1);
  if (s < 86_400) return two("h", 3600, "min", 60);
  return two("d", 86_400, "h", 3600);
};

/** The same without tenths. */
export const wholeSpan = (seconds) => {
  if (!known(seconds) || seconds >= 10) return span(seconds);
  return `${whole.format(Math.max(0, Math.round(seconds)))} s`;
};

/** How long ago, in one unit: it stands still while one looks. */
export const ago = (then, now) => {
  if (!known(then) || !known(now)) return NOTHING;
  const s = (now - then) / 1000;
  if (s < 2) return "now";
  if (s < 60) return `${Math.floor(s)} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`;
  return `${whole.format(Math.floor(s / 86_400))} d ago`;
};

const iso = (ms) => {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
};

export const clock = (ms) => iso(ms).slice(11, 19) || NOTHING;
export const hourAndMinute = (ms) => iso(ms).slice(11, 16) || NOTHING;
export const exact = (ms) => (known(ms) ? `${iso(ms).slice(0, 10)} ${iso(ms).slice(11, 19)} UTC` : NOTHING);
export const stamp = iso;

/** `2026-11-22` as `22 Nov`. */
export const dayOf = (date) => {
  const at = new Date(`${date}T00:00:00Z`);
  return Number.isNaN(at.getTime()) ? date : day.format(at);
};

/** `[0, 1, 2, 5]` as `0–2, 5`. */
export const ranges = (numbers) => {
  const sorted = [...numbers].sort((a, b) => a - b);
  const runs = [];
  for (const n of sorted) {
    const last = runs.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ") || NOTHING;
};

/** A word of the machine's, such as `rate_limited`, for people. */
export const words = (name) => String(name).replaceAll("_", " ");

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** The end of an id, in which ids of one hour differ. */
export const shortId = (id) => (/^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(id) ? `…${id.slice(-8)}` : id);

export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;
