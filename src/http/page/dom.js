// Making and changing elements. Whatever comes from outside becomes text, never markup.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
};

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Only a change is one: an equal text would be read out again, and would lose what is selected in it. */
export const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

export const setTitle = (node, title) => {
  if (node.title !== title) node.title = title;
};

/** A number: as people read it, and as it came. */
export const setNumber = (node, value, text) => {
  setText(node, text);
  const raw = value === null || value === undefined ? "" : String(value);
  if (node.getAttribute("value") !== raw) node.setAttribute("value", raw);
};

export const show = (node, shown) => {
  if (node.hidden === shown) node.hidden = !shown;
};

/** Text with `commands` in backticks set as code. */
export const prose = (text) =>
  String(text)
    .split("`")
    .map((piece, at) => (at % 2 === 1 ? el("code", {}, piece) : piece));

/** A name that a stranger chose: apart from the text around it, whichever way it is written. */
export const name = (text) => el("bdi", { class: "name", title: text }, text);

/** A moment in relative words, and exactly for who points at it. */
export const setMoment = (node, ms, text, exact, stamp) => {
  setText(node, text);
  setTitle(node, exact);
  if (node.dateTime !== stamp) node.dateTime = stamp;
};

/** A bar of `fraction` of its room. Widths are attributes: no style stands in the page. */
export const setBar = (rect, fraction, level = "") => {
  const width = `${(Math.min(1, Math.max(0, fraction || 0)) * 100).toFixed(1)}%`;
  if (rect.getAttribute("width") !== width) rect.setAttribute("width", width);
  if (rect.dataset.level !== level) rect.dataset.level = level;
};

export const bar = () => {
  const rect = svg("rect", { class: "fill", height: "100%", width: "0" });
  return { rect, box: svg("svg", { class: "bar", "aria-hidden": "true", focusable: "false" }, rect) };
};

/**
 * Keeps the rows of a table as `items` are, each one known by its key: a row that stays is changed in place.
 * `make(item)` gives `{ row, update(item) }`.
 */
export const rows = (body, items, keyOf, make) => {
  const known = body.known ?? (body.known = new Map());
  const seen = new Set();
  let at = body.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (seen.has(key)) continue;
    seen.add(key);
    let entry = known.get(key);
    if (!entry) {
      entry = make(item);
      known.set(key, entry);
    }
    entry.update(item);
    if (entry.row === at) at = at.nextElementSibling;
    else body.insertBefore(entry.row, at);
  }
  for (const [key, entry] of known) {
    if (seen.has(key)) continue;
    entry.row.remove();
    known.delete(key);
  }
};
