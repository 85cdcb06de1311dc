// The last hour as lines, the last thirty days as bars, and both as tables for whoever reads those more easily.

import { $, el } from "./dom.js";
import { brief, bytes, clock, count, dayOf, hourAndMinute, rate, tick } from "./format.js";
import { bars, lines } from "./charts.js";

const DAYS = 30;
const DAY_MS = 86_400_000;
/** A row of the table for so many seconds of the hour. */
const ROW_S = 300;

const shared = { timeFormat: hourAndMinute, exactTime: clock };
const perSecond = { ...shared, format: (n) => (n === null || n === undefined ? "–" : `${rate(n)}/s`), axisFormat: tick };

const rates = lines($("chart-rates"), {
  ...perSecond,
  title: "Heartbeats a second",
  series: [{ key: "in", label: "in" }, { key: "out", label: "written" }],
});
const refused = lines($("chart-refused"), { ...perSecond, title: "Refused a second", series: [{ key: "refused", label: "refused" }] });
const waiting = lines($("chart-waiting"), {
  ...shared,
  format: brief,
  axisFormat: tick,
  whole: true,
  title: "Waiting in the buffer",
  series: [{ key: "waiting", label: "waiting" }],
});
const days = bars($("chart-days"), { title: "Rows by date", label: "rows", format: count, axisFormat: tick, dayFormat: dayOf });

const table = (caption, heads, body) => [
  el("caption", { class: "unseen" }, caption),
  el("thead", {}, el("tr", {}, ...heads.map((head, at) => el("th", { scope: "col", class: at > 0 && "n" }, head)))),
  el("tbody", {}, ...body.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((text) => el("td", { class: "n" }, text))))),
];

const mean = (values) => {
  const known = values.filter((value) => typeof value === "number");
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
};

const hourRows = (history) => {
  const each = Math.max(1, Math.round(ROW_S / history.step_s));
  const length = history.in.length;
  const found = [];
  for (let end = length; end > 0; end -= each) {
    const part = (values) => mean(values.slice(Math.max(0, end - each), end));
    const until = history.until - (length - end) * history.step_s * 1000;
    found.push([hourAndMinute(until), rate(part(history.in)), rate(part(history.out)), rate(part(history.refused)), count(part(history.waiting))]);
  }
  return found;
};

let lastHour = null;
let lastDays = [];

const fillHour = () => {
  if (!lastHour || !$("hour-details").open) return;
  $("hour-table").replaceChildren(
    ...table("Means of five minutes, the newest first", ["Until", "In /s", "Written /s", "Refused /s", "Waiting"], hourRows(lastHour)),
  );
};

const fillDays = () => {
  if (!$("days-details").open) return;
  const body = [...lastDays].reverse().map((day) => [day.date, count(day.rows), bytes(day.bytes), count(day.files)]);
  $("days-table").replaceChildren(...table("The newest first", ["Date", "Rows", "Size", "Files"], body));
};

$("hour-details").addEventListener("toggle", fillHour);
$("days-details").addEventListener("toggle", fillDays);

/** Every one of the last thirty days, with or without rows. */
const withEmptyDays = (found, now) => {
  const known = new Map(found.map((day) => [day.date, day]));
  const today = Math.floor(now / DAY_MS);
  return Array.from({ length: DAYS }, (_, i) => {
    const date = new Date((today - DAYS + 1 + i) * DAY_MS).toISOString().slice(0, 10);
    return known.get(date) ?? { date, rows: 0, bytes: 0, files: 0 };
  });
};

export const showHistory = (history) => {
  lastHour = history;
  for (const chart of [rates, refused, waiting]) chart.update(history);
  fillHour();
};

export const showDays = ({ files, now }) => {
  if (!files) return;
  lastDays = withEmptyDays(files.days, now);
  days.update(lastDays);
  fillDays();
};
