// The sections below the flow, each from its part of the status.

import { $, bar, el, name, prose, rows, setBar, setMoment, setNumber, setText, setTitle, show } from "./dom.js";
import { ago, bytes, clock, count, exact, many, percent, ranges, shortId, span, stamp, wholeSpan, words } from "./format.js";
import { diskLevel, fullness, levelOf, unseenSince } from "./flow.js";

const FULL_WORDS = { bad: ", full", warn: ", nearly full", "": "" };

const UNKNOWN = "Not known at this moment.";

const cell = (attributes = {}, ...children) => el("td", attributes, ...children);
const bodyOf = (id) => $(id).tBodies[0];

/** Shows the table, or one quiet line instead. */
const either = (id, empty) => {
  const table = $(id);
  show(table.closest(".scroll") ?? table, !empty);
  const line = $(`${id}-none`);
  show(line, Boolean(empty));
  if (empty) setText(line, empty);
};

const partitionRow = ({ partition }) => {
  const { rect, box } = bar();
  const share = el("span", { class: "share" });
  const waiting = el("data");
  const [waits, oldest, hand, dead] = [cell({ class: "n" }, waiting), cell({ class: "n" }), cell({ class: "n" }), cell({ class: "n" })];
  const owner = el("bdi", { class: "name" });
  const row = el("tr", {}, el("th", { scope: "row", class: "n" }, String(partition)), cell({ class: "fillcell" }, box, share), waits, oldest, hand, dead, cell({}, owner));
  const update = (one) => {
    const full = fullness(one);
    setBar(rect, full, levelOf(full));
    setText(share, `${percent(full, 1)}${FULL_WORDS[levelOf(full)]}`);
    setNumber(waiting, one.heartbeats, count(one.heartbeats));
    setTitle(waits, `${count(one.heartbeats)} of at most ${count(one.heartbeats_max)} heartbeats, ${bytes(one.bytes)} of ${bytes(one.bytes_max)}`);
    setText(oldest, span(one.oldest_pending_s));
    setText(hand, span(one.claim_age_s));
    setText(dead, count(one.dead));
    dead.toggleAttribute("data-mark", one.dead > 0);
    setText(owner, one.owner ? shortId(one.owner) : "nobody");
    setTitle(owner, one.owner ?? "");
  };
  return { row, update };
};

const showPartitions = (status) => {
  const { buffer } = status;
  const note = $("partitions-note");
  show(bodyOf("partitions").closest(".scroll"), Boolean(buffer));
  if (!buffer) return setText(note, UNKNOWN);
  const unseen = unseenSince(status);
  const old = unseen === null ? "" : `As it was at ${clock(unseen)}: not seen since. `;
  const kind = { embedded: "Embedded in this process", redis: "On Redis" }[buffer.kind] ?? words(buffer.kind);
  setText(
    note,
    `${old}${kind}, durability ${words(buffer.durability)}; room for ${count(buffer.heartbeats_max)} heartbeats and ${bytes(buffer.bytes_max)} in all.`,
  );
  rows(bodyOf("partitions"), buffer.partitions, (one) => one.partition, partitionRow);
};

const batcherRow = ({ id }) => {
  const state = cell({ class: "state" });
  const held = cell({ class: "wrap" });
  const seen = cell({ class: "n" });
  const row = el("tr", {}, state, el("th", { scope: "row" }, el("bdi", { class: "name", title: id }, shortId(id))), held, seen);
  const update = (one) => {
    setText(state, one.alive ? "alive" : "gone");
    state.dataset.state = one.alive ? "well" : "unwell";
    setText(held, ranges(one.partitions));
    setText(seen, one.seen_s < 2 ? "now" : `${wholeSpan(one.seen_s)} ago`);
  };
  return { row, update };
};

const showBatchers = ({ batchers }) => {
  either("batchers", batchers ? (batchers.length ? "" : "None has announced itself: nothing is written.") : UNKNOWN);
  const order = [...(batchers ?? [])].sort((a, b) => a.alive - b.alive || (a.id < b.id ? -1 : 1));
  rows(bodyOf("batchers"), order, (one) => one.id, batcherRow);
};

const refusedRow = ({ reason }) => {
  const { rect, box } = bar();
  rect.classList.add("refusing");
  const number = el("data");
  const row = el("tr", {}, el("th", { scope: "row", title: reason }, words(reason)), cell({ class: "fillcell" }, box), cell({ class: "n" }, number));
  const update = ({ heartbeats, most }) => {
    setBar(rect, most ? heartbeats / most : 0);
    setNumber(number, heartbeats, count(heartbeats));
  };
  return { row, update };
};

const showRefused = ({ refused, uptime_s }) => {
  const list = (refused ?? []).filter(({ heartbeats }) => heartbeats > 0).sort((a, b) => b.heartbeats - a.heartbeats || (a.reason < b.reason ? -1 : 1));
  const most = list[0]?.heartbeats ?? 0;
  either("refused", refused ? (list.length ? "" : `None since this process started, ${wholeSpan(uptime_s)} ago.`) : UNKNOWN);
  rows(bodyOf("refused"), list.map((one) => ({ ...one, most })), (one) => one.reason, refusedRow);
};

const letterRow = ({ id, partition, rows: lost, since, reason }) => {
  const when = el("time");
  const row = el(
    "tr",
    {},
    el("th", { scope: "row", class: "wrap" }, el("bdi", {}, reason), el("bdi", { class: "name id", title: id }, id)),
    cell({ class: "n" }, count(lost)),
    cell({ class: "n" }, String(partition)),
    cell({ class: "n" }, when),
  );
  return { row, update: ({ now }) => setMoment(when, since, ago(since, now), exact(since), stamp(since)) };
};

const showLetters = ({ dead_letters: dead, now }) => {
  const letters = dead?.letters ?? [];
  either("letters", dead ? (letters.length ? "" : "None: everything that was accepted could be written.") : UNKNOWN);
  rows(bodyOf("letters"), letters.map((one) => ({ ...one, now })), (one) => one.id, letterRow);
  const more = $("letters-more");
  show(more, letters.length > 0);
  if (letters.length) {
    more.replaceChildren(
      ...prose(`${dead.more ? `The newest ${letters.length} of more; ` : ""}${many(dead.heartbeats, "heartbeat")} in all. Look with \`systole dead-letters show ID\`, then \`retry\` or \`drop\` it.`),
    );
  }
};

const silentRow = ({ user_id, device_id }) => {
  const when = el("time");
  const row = el("tr", {}, el("th", { scope: "row" }, name(user_id)), cell({}, name(device_id)), cell({ class: "n" }, when));
  return { row, update: ({ last_seen, now }) => setMoment(when, last_seen, ago(last_seen, now), exact(last_seen), stamp(last_seen)) };
};

const showSilent = ({ silent, now }) => {
  const devices = silent?.devices ?? [];
  const after = wholeSpan(silent?.after_s);
  either("silent", silent ? (devices.length ? "" : `None: every device that is remembered has beaten within ${after}.`) : UNKNOWN);
  rows(bodyOf("silent"), devices.map((one) => ({ ...one, now })), (one) => JSON.stringify([one.user_id, one.device_id]), silentRow);
  const more = $("silent-more");
  show(more, devices.length > 0);
  if (devices.length) {
    const whole = silent.more ? `These ${devices.length} and more have not beaten` : "Not seen";
    more.replaceChildren(...prose(`${whole} for ${after}. All of them: \`systole silent\`.`));
  }
};

const publishRow = ({ at, date, partition, rows: added, bytes: size }) => {
  const when = el("time");
  const row = el("tr", {}, cell({}, when), el("th", { scope: "row", class: "date" }, date), cell({ class: "n" }, String(partition)), cell({ class: "n" }, count(added)), cell({ class: "n" }, bytes(size)));
  return { row, update: ({ now }) => setMoment(when, at, ago(at, now), exact(at), stamp(at)) };
};

const showFiles = ({ files, now }) => {
  for (const panel of document.querySelectorAll(".needs-files")) show(panel, Boolean(files));
  if (!files) return;
  const { disk, quarantined, last_publishes: last } = files;
  if (disk) {
    const level = diskLevel(disk);
    setBar($("disk-bar"), 1 - disk.free_bytes / disk.total_bytes, level);
    const short = { bad: " – too little: nothing is written", warn: " – soon too little", "": "" }[level];
    setText($("disk"), `${bytes(disk.free_bytes)} left of ${bytes(disk.total_bytes)}${short}`);
    setTitle($("disk"), `Systole stops writing below ${bytes(disk.min_free_bytes)}`);
  }
  show($("files-incomplete"), files.complete === false);
  setNumber($("quarantined"), quarantined, quarantined === 0 ? "none" : `${many(quarantined, "file")}: damaged, kept aside`);
  either("publishes", last.length ? "" : "Nothing was published yet.");
  const latest = [...last].sort((a, b) => b.at - a.at);
  rows(bodyOf("publishes"), latest.map((one) => ({ ...one, now })), (one) => `${one.at} ${one.date} ${one.partition} ${one.rows}`, publishRow);
};

const account = (title, total, parts, balanced, balancedText) => {
  const list = el("dl", { class: "account" });
  [total, ...parts].forEach(([label, id], at) => {
    const sign = ["", "="][at] ?? "+";
    list.append(el("div", {}, el("dt", {}, label), el("dd", {}, el("span", { class: "op", "aria-hidden": "true" }, sign), el("data", { id }, "–"))));
  });
  return el("div", { class: "book" }, el("h3", {}, title, " ", el("span", { class: "state", id: balanced }, balancedText)), list);
};

const buildBooks = () => {
  $("books").replaceChildren(
    account("Buffer", ["accepted", "book-accepted"], [["pending", "book-pending"], ["claimed", "book-claimed"], ["written", "book-acked"], ["dead", "book-dead"], ["dropped", "book-dropped"]], "book-buffer", ""),
    account("Files", ["written", "book-acked-again"], [["staged", "book-staged"], ["merged", "book-merged"], ["quarantined", "book-quarantined"]], "book-files", ""),
  );
};

const balance = (id, balanced) => {
  setText($(id), balanced ? "balanced" : "does not balance");
  $(id).dataset.state = balanced ? "well" : "unwell";
};

const showBooks = ({ books }) => {
  show($("books"), Boolean(books));
  show($("books-none"), !books);
  if (!books) return setText($("books-none"), UNKNOWN);
  if (!$("books").firstElementChild) buildBooks();
  const set = (key, value) => setNumber($(`book-${key}`), value, count(value));
  for (const key of ["accepted", "pending", "claimed", "acked", "dead", "dropped"]) set(key, books[key]);
  balance("book-buffer", books.balanced);
  show($("book-files").closest(".book"), Boolean(books.files));
  show($("books-files-unknown"), !books.files);
  if (!books.files) return $("books-files-unknown").replaceChildren(...prose(`Files: ${books.files_unknown ?? "not known at this moment"}.`));
  set("acked-again", books.acked);
  for (const key of ["staged", "merged", "quarantined"]) set(key, books.files[key]);
  balance("book-files", books.files.balanced);
  return undefined;
};

export const showTables = (status) => {
  showPartitions(status);
  showBatchers(status);
  showRefused(status);
  showLetters(status);
  showSilent(status);
  showFiles(status);
  showBooks(status);
};
