// Lines and bars, drawn at the size they are shown at. What is not known is a gap, never a zero.

import { el, setText, svg } from "./dom.js";
import { NOTHING } from "./format.js";

/** What the lines show. */
const SPAN_S = 3600;
const LEFT = 52;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 22;

/** A round number at or above `most`, and the steps up to it. */
const scale = (most, whole) => {
  const rough = Math.max(most, whole ? 2 : 1) / 2;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough && (!whole || Number.isInteger(n)));
  return { top: step * 2, ticks: [0, step, step * 2] };
};

const numbers = (values) => values.filter((value) => typeof value === "number" && Number.isFinite(value));

const highest = (lists) => lists.reduce((most, values) => numbers(values).reduce((a, b) => Math.max(a, b), most), 0);

/** The frame that all charts have: a caption that is legend and readout in one, the plot, and what lies over it. */
const frame = (figure, { title, series }) => {
  const readout = el("output", { class: "when" });
  const legend = series.map(({ label, key }) => {
    const value = el("b", {}, NOTHING);
    const swatch = svg("svg", { class: `swatch ${key}`, viewBox: "0 0 18 8", "aria-hidden": "true" }, svg("path", { d: "M0 4h18" }));
    return { value, item: el("span", { class: "entry" }, swatch, `${label} `, value) };
  });
  const caption = el(
    "figcaption",
    {},
    el("h3", {}, title),
    el("span", { class: "legend" }, ...legend.map(({ item }) => item)),
    readout,
  );
  readout.setAttribute("aria-live", "off");
  const plot = el("div", { class: "plot" });
  // Over the drawing: a title of SVG would come up as a tooltip under the pointer.
  const over = el("div", { class: "over" });
  plot.append(over);
  figure.replaceChildren(caption, plot);
  return { plot, over, readout, legend };
};

let ids = 0;

const canvas = (width, height, title, description) => {
  ids += 1;
  const box = svg("svg", {
    role: "img",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    "aria-labelledby": `chart-${ids}-title chart-${ids}-desc`,
  });
  box.append(svg("title", { id: `chart-${ids}-title` }, title), svg("desc", { id: `chart-${ids}-desc` }, description));
  return box;
};

const yAxis = (box, { ticks, top }, y, width, format) => {
  for (const tick of ticks) {
    const at = Math.round(y(tick)) + 0.5;
    box.append(
      svg("line", { class: tick === 0 ? "axis" : "rule", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
      svg("text", { class: "tick", x: LEFT - 8, y: at, dy: "0.32em", "text-anchor": "end" }, format(tick, top)),
    );
  }
};

const xTick = (box, x, height, text, anchor = "middle") => {
  const at = Math.round(x) + 0.5;
  box.append(
    svg("line", { class: "axis", x1: at, x2: at, y1: height - BOTTOM, y2: height - BOTTOM + 4 }),
    svg("text", { class: "tick", x: at, y: height - 6, "text-anchor": anchor }, text),
  );
};

/** The path of what is known, broken where something is not; a lonely point becomes a dot. */
const trace = (values, x, y) => {
  let path = "";
  let dots = "";
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    if (value === null || value === undefined) continue;
    const before = i > 0 && values[i - 1] !== null && values[i - 1] !== undefined;
    const after = i + 1 < values.length && values[i + 1] !== null && values[i + 1] !== undefined;
    if (!before && !after) dots += `M${x(i).toFixed(1)} ${y(value).toFixed(1)}h.01`;
    else path += `${before ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
  }
  return path + dots;
};

/** Draws again whenever its room changes, and not oftener. */
const keepDrawn = (plot, draw) => {
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now !== width) {
      width = now;
      draw();
    }
  }).observe(plot);
};

/** The place under the pointer, by index; null when it leaves. */
const followPointer = (over, indexAt, picked) => {
  over.addEventListener("pointermove", (event) => picked(indexAt(event.clientX - over.getBoundingClientRect().left)));
  over.addEventListener("pointerleave", () => picked(null));
};

/**
 * Lines over time. `series` is `[{ key, label }]`; `update({ step_s, until, series: {key: values} })` draws.
 * Each is told from the others by its dash as well as its colour.
 */
export const lines = (figure, { title, series, format, axisFormat, timeFormat, exactTime, whole = false }) => {
  const { plot, over, readout, legend } = frame(figure, { title, series });
  let data = null;
  let picked = null;
  let marker = null;
  let x = () => 0;

  const timeOf = (i) => data.until - (data.length - 1 - i) * data.stepMs;

  const say = () => {
    const at = picked ?? (data ? data.length - 1 : 0);
    legend.forEach(({ value }, i) => setText(value, data ? format(data.values[i][at]) : NOTHING));
    setText(readout, picked === null || !data ? "" : `at ${exactTime(timeOf(picked))}`);
    if (marker) {
      const place = picked === null ? -10 : Math.round(x(picked)) + 0.5;
      marker.setAttribute("x1", place);
      marker.setAttribute("x2", place);
    }
  };

  const describe = () =>
    series
      .map(({ label }, i) => {
        const values = numbers(data.values[i]);
        if (!values.length) return `${label}: not known.`;
        return `${label}: now ${format(data.values[i].at(-1))}, highest ${format(Math.max(...values))}.`;
      })
      .join(" ");

  const draw = () => {
    const width = plot.clientWidth;
    const height = plot.clientHeight;
    if (!data || width < 80 || height < 40) return;
    const box = canvas(width, height, title, describe());
    const top = scale(highest(data.values), whole);
    const y = (value) => height - BOTTOM - (value / top.top) * (height - TOP - BOTTOM);
    x = (i) => LEFT + (i / Math.max(1, data.length - 1)) * (width - LEFT - RIGHT);
    yAxis(box, top, y, width, axisFormat);
    const everyMs = (width < 480 ? 20 : 10) * 60_000;
    const first = timeOf(0);
    for (let at = Math.ceil(first / everyMs) * everyMs; at <= data.until; at += everyMs) {
      const place = LEFT + ((at - first) / Math.max(1, data.until - first)) * (width - LEFT - RIGHT);
      if (place > LEFT + 16 && place < width - RIGHT - 14) xTick(box, place, height, timeFormat(at));
    }
    data.values.forEach((values, i) => box.append(svg("path", { class: `line ${series[i].key}`, d: trace(values, x, y) })));
    marker = svg("line", { class: "marker", x1: -10, x2: -10, y1: TOP, y2: height - BOTTOM });
    box.append(marker);
    plot.replaceChildren(box, over);
    say();
  };

  followPointer(
    over,
    (px) => {
      if (!data) return null;
      const i = Math.round(((px - LEFT) / (over.clientWidth - LEFT - RIGHT)) * (data.length - 1));
      return Math.min(data.length - 1, Math.max(0, i));
    },
    (i) => {
      picked = i;
      say();
    },
  );
  keepDrawn(plot, draw);

  return {
    update: (history) => {
      // Always the whole span: what was before the process began is not known.
      const length = Math.round(SPAN_S / history.step_s);
      const whole = (known) => [...Array(Math.max(0, length - known.length)).fill(null), ...known].slice(-length);
      const values = series.map(({ key }) => whole(history[key] ?? []));
      data = { values, length, until: history.until, stepMs: history.step_s * 1000 };
      if (picked !== null) picked = Math.min(picked, length - 1);
      draw();
      say();
    },
  };
};

/** One bar a day. A day without a file is an empty place. */
export const bars = (figure, { title, label, format, axisFormat, dayFormat }) => {
  const { plot, over, readout, legend } = frame(figure, { title, series: [{ key: "days", label }] });
  let days = [];
  let picked = null;
  let shown = [];

  const say = () => {
    const day = picked === null ? days.at(-1) : days[picked];
    setText(legend[0].value, day ? format(day.rows) : NOTHING);
    setText(readout, day ? `on ${day.date}` : "");
    shown.forEach((rect, i) => rect.classList.toggle("picked", i === picked));
  };

  const draw = () => {
    const width = plot.clientWidth;
    const height = plot.clientHeight;
    if (!days.length || width < 80 || height < 40) return;
    const most = days.reduce((a, { rows }) => Math.max(a, rows), 0);
    const best = days.find(({ rows }) => rows === most);
    const box = canvas(width, height, title, most > 0 ? `Most on ${best.date}: ${format(most)}.` : "No row yet.");
    const top = scale(most, true);
    const room = (width - LEFT - RIGHT) / days.length;
    const y = (value) => height - BOTTOM - (value / top.top) * (height - TOP - BOTTOM);
    yAxis(box, top, y, width, axisFormat);
    const each = width < 480 ? 10 : 5;
    shown = days.map(({ rows, date }, i) => {
      const left = LEFT + i * room;
      // A day with few rows is a thin line, not nothing.
      const tall = rows > 0 ? Math.max(1.5, y(0) - y(rows)) : 0;
      const wide = Math.max(1, room - Math.min(4, room * 0.28));
      const rect = svg("rect", { class: "day", x: left + (room - wide) / 2, y: y(0) - tall, width: wide, height: tall, rx: Math.min(2, tall / 2) });
      box.append(rect);
      if ((days.length - 1 - i) % each === 0) xTick(box, left + room / 2, height, dayFormat(date), i === days.length - 1 && room < 24 ? "end" : "middle");
      return rect;
    });
    plot.replaceChildren(box, over);
    say();
  };

  followPointer(
    over,
    (px) => {
      const i = Math.floor(((px - LEFT) / (over.clientWidth - LEFT - RIGHT)) * days.length);
      return days.length ? Math.min(days.length - 1, Math.max(0, i)) : null;
    },
    (i) => {
      picked = i;
      say();
    },
  );
  keepDrawn(plot, draw);

  return {
    update: (list) => {
      const same = list.length === days.length && list.every((day, i) => day.date === days[i].date && day.rows === days[i].rows);
      days = list;
      if (!same) draw();
      say();
    },
  };
};
