// The verdict, what is wrong and what to do, and the way of the heartbeats with its numbers.

import { $, el, prose, setBar, setNumber, setText, setTitle, show } from "./dom.js";
import { NOTHING, ago, brief, bytes, clock, count, exact, many, percent, ranges, rate, sentence, shortId, span, wholeSpan, words } from "./format.js";

/** From here on a buffer is called nearly full. */
const NEARLY_FULL = 0.8;
/** The last frame seldom fits exactly. */
const FULL = 0.995;

/** A look at the buffer that is older than this, some of the usual ones, is said to be. */
const STALE_LOOK_S = 10;
/** And one as old as this where the buffer is said to be unwell: by then a look at it has failed. */
const FAILED_LOOK_S = 3;

const hasProblem = ({ verdict }, ...parts) => verdict.problems.some(({ part }) => parts.includes(part));

/** Since when nobody has seen what is in the buffer, where that is no longer what it was; else null. */
export const unseenSince = (status) => {
  const { buffer, now } = status;
  if (!buffer || buffer.looked_s <= (hasProblem(status, "buffer") ? FAILED_LOOK_S : STALE_LOOK_S)) return null;
  return now - buffer.looked_s * 1000;
};

/** How full a store is: by whichever of its two caps is nearer. */
export const fullness = ({ heartbeats, heartbeats_max, bytes: size, bytes_max }) => {
  const by = (part, of) => (of > 0 ? part / of : 0);
  return Math.max(by(heartbeats, heartbeats_max), by(size, bytes_max));
};

export const levelOf = (fraction) => {
  if (fraction >= FULL) return "bad";
  return fraction >= NEARLY_FULL ? "warn" : "";
};


const partitionsFrom = (status, least) =>
  (status.buffer?.partitions ?? []).filter((one) => fullness(one) >= least).map(({ partition }) => partition);

/** Free space is short once it is below twice what Systole stops at. */
export const diskLevel = ({ free_bytes: free, min_free_bytes: least }) => {
  if (free < least) return "bad";
  return free < 2 * least ? "warn" : "";
};

/** What no part reports as a fault of its own, and a person should know all the same. */
const notes = (status) => {
  const { batchers, dead_letters: dead, files, books } = status;
  const found = [];
  const note = (part, detail, advice) => found.push({ part, detail, advice });
  const seen = unseenSince(status) === null;
  const gone = (batchers ?? []).filter(({ alive }) => !alive);
  if (seen && gone.length) {
    const ids = gone.map(({ id }) => shortId(id)).join(", ");
    note("batchers", `${many(gone.length, "batcher")} gave no sign of life for ${wholeSpan(Math.max(...gone.map(({ seen_s }) => seen_s)))}: ${ids}.`,
      "Its partitions go to the others, if there are any; unless it was meant to end, look at its log and start `systole batch` again.");
  }
  const full = partitionsFrom(status, FULL);
  const nearly = partitionsFrom(status, NEARLY_FULL).filter((one) => !full.includes(one));
  const named = (list) => `${list.length === 1 ? "partition" : "partitions"} ${ranges(list)}`;
  // What is refused, and what is not drained, is told with its partitions.
  const told = !seen || hasProblem(status, "refused", "drain");
  if (full.length && !told) {
    note("buffer", `Full: ${named(full)}. Heartbeats of their users are refused until there is room.`, "See that batchers are alive and that the disk they write to has room; more of them drain faster.");
  } else if (nearly.length && !told) {
    note("buffer", `Nearly full: ${named(nearly)}.`, "See that batchers keep up: start more of them, or see what their logs say.");
  }
  if (dead?.heartbeats > 0) {
    note("dead letters", `${many(dead.heartbeats, "heartbeat")} could not be written.`, "See `systole dead-letters list`; once the cause is mended, `retry` them, or `drop` them.");
  }
  if (files?.quarantined > 0) {
    note("files", `${many(files.quarantined, "damaged file")} in quarantine.`, "Run `systole verify`: it says which.");
  }
  if (files && diskLevel(files.disk) === "warn") {
    note("disk", `${bytes(files.disk.free_bytes)} are left where the files stand; below ${bytes(files.disk.min_free_bytes)} nothing more is written.`,
      "Make room on the disk of the data folder, or give it a larger one.");
  }
  if (books && (!books.balanced || books.files?.balanced === false)) {
    note("books", "They do not balance.", "Run `systole audit`: it says what is missing, and where.");
  }
  return found;
};

const setVerdict = (look, text, more) => {
  $("verdict").dataset.look = look;
  setText($("verdict-text"), text);
  setText($("verdict-more"), more);
};

const refusedInAll = (refused) => (refused ?? []).reduce((sum, { heartbeats }) => sum + heartbeats, 0);

const summary = (status) => {
  const { rates, buffer, books, silent } = status;
  const unseen = unseenSince(status);
  if (unseen !== null) return `How many come in and what waits is not known since ${clock(unseen)}.`;
  if (books && books.accepted === 0) return "It is ready for the first heartbeat.";
  const oldest = buffer?.oldest_pending_s;
  const nothing = buffer ? "Nothing waits." : "";
  const quiet = silent?.devices.length ?? 0;
  const devices = quiet ? ` ${silent.more ? "More than " : ""}${many(quiet, "device")} ${quiet === 1 ? "is" : "are"} silent.` : "";
  const waiting = (typeof oldest === "number" ? `The oldest that waits came ${span(oldest)} ago.` : nothing) + devices;
  if (typeof rates?.in !== "number") return `How many come in is not known yet. ${waiting}`;
  return `${rate(rates.in)} heartbeats a second come in, ${rate(rates.out)} are written. ${waiting}`;
};

/** Where on the page more is to be seen of a part. */
const PLACES = [
  [/refused/, "refused-title"],
  [/dataset/, "flow-title"],
  [/batcher|lease/, "batchers-title"],
  [/dead/, "letters-title"],
  [/silen/, "silent-title"],
  [/disk|compact|publish|consolidat|dataset|files/, "publishes-title"],
  [/book/, "books-title"],
  [/buffer|partition|drain|intake|registration|ledger|spill/, "partitions-title"],
];

const placeOf = (part) => PLACES.find(([pattern]) => pattern.test(part))?.[1];

const problemItem = ({ part, detail, advice }) => {
  const place = placeOf(part);
  const named = sentence(words(part));
  const what = el("strong", {}, place ? el("a", { href: `#${place}` }, named) : named);
  const item = el("li", {}, el("p", {}, what, " ", ...prose(detail)));
  if (advice) item.append(el("p", { class: "advice" }, ...prose(advice)));
  return item;
};

let problemsShown = "";

const showProblems = (problems) => {
  const list = $("problems");
  const now = JSON.stringify(problems);
  if (now !== problemsShown) list.replaceChildren(...problems.map(problemItem));
  problemsShown = now;
  show(list, problems.length > 0);
};

export const showVerdict = (status) => {
  const { well, problems } = status.verdict;
  const noted = notes(status).filter(({ part }) => !problems.some((problem) => problem.part === part));
  const n = well ? noted.length : Math.max(1, problems.length + noted.length);
  showProblems([...problems, ...noted]);
  let [look, text] = ["well", "All is well"];
  if (!well) [look, text] = ["unwell", n === 1 ? "Something is wrong" : `${n} things are wrong`];
  else if (n > 0) [look, text] = ["noted", `It works; look at ${n === 1 ? "this" : `these ${n}`}`];
  setVerdict(look, text, summary(status));
  document.title = `${n > 0 ? `(${n}) ` : ""}Systole: ${text.charAt(0).toLowerCase()}${text.slice(1)}`;
};

/** There is no answer any more: what was well then is not known to be so now. */
export const showSilence = (since, detail, nextMs) => {
  const when = since === null ? "yet" : `since ${clock(since)}`;
  const old = since === null ? "" : ` What stands below is as it was at ${exact(since)}.`;
  setVerdict("unknown", `No answer ${when}`, `${detail} Asking again every ${wholeSpan(nextMs / 1000)}.${old}`);
  show($("problems"), false);
  problemsShown = "";
  document.title = "(?) Systole: no answer";
};

export const showRefusal = (text, more) => {
  setVerdict("unknown", text, more);
  show($("problems"), false);
  problemsShown = "";
  document.title = `Systole: ${text.toLowerCase()}`;
};

/** Marks a stage, in a word beside its name. */
const flag = (id, level, word) => {
  const node = $(`stage-${id}`);
  if (node.dataset.level !== level) node.dataset.level = level;
  setText($(`flag-${id}`), level ? `▲ ${word}` : "");
};

const showIn = ({ rates, refused, books }) => {
  setNumber($("in-rate"), rates?.in, rate(rates?.in));
  setNumber($("in-accepted"), books?.accepted, brief(books?.accepted));
  setTitle($("in-accepted"), count(books?.accepted));
  const turned = refusedInAll(refused);
  setNumber($("in-refused"), refused ? turned : null, brief(refused ? turned : null));
  setTitle($("in-refused"), "since this process started");
};

const asOf = ({ looked_s }) => `as of ${wholeSpan(looked_s)} ago`;

const showBuffer = (status) => {
  const { buffer, books } = status;
  const known = Boolean(buffer);
  const waiting = books ? books.pending + books.claimed : null;
  setNumber($("buffer-waiting"), waiting, brief(waiting));
  setTitle($("buffer-waiting"), count(waiting));
  // A partition that is full refuses its users, however empty the others are.
  const fullest = known ? buffer.partitions.reduce((most, one) => Math.max(most, fullness(one)), 0) : 0;
  const whole = known ? fullness(buffer) : 0;
  const level = levelOf(Math.max(fullest, whole));
  setBar($("buffer-bar"), whole, levelOf(whole));
  setText($("buffer-fill"), known ? `${percent(whole, 1)} full` : "not known now");
  const oldest = buffer?.oldest_pending_s;
  const unseen = unseenSince(status) !== null;
  setText($("buffer-oldest"), known && !unseen ? (oldest === null ? "nothing waits" : `oldest ${span(oldest)}`) : NOTHING);
  if (unseen) return flag("buffer", "warn", asOf(buffer));
  const reached = buffer?.partitions.filter((one) => levelOf(fullness(one)) === level).length;
  return flag("buffer", level, level === "bad" ? `${reached} of ${buffer?.partitions.length} full` : "nearly full");
};

const showBatchers = (status) => {
  const { batchers, rates, buffer } = status;
  const alive = batchers?.filter((one) => one.alive) ?? [];
  const gone = (batchers?.length ?? 0) - alive.length;
  setNumber($("batchers-alive"), batchers ? alive.length : null, count(batchers ? alive.length : null));
  setNumber($("out-rate"), rates?.out, rate(rates?.out));
  const of = buffer?.partitions.length;
  const held = new Set(alive.flatMap((one) => one.partitions)).size;
  const unseen = unseenSince(status) !== null;
  setText($("batchers-partitions"), of === undefined || !batchers || unseen ? NOTHING : `${held} of ${many(of, "partition")}`);
  if (unseen) flag("batchers", "warn", asOf(buffer));
  else if (!batchers) flag("batchers", "");
  else if (alive.length === 0) flag("batchers", "bad", "none alive");
  else if (gone > 0) flag("batchers", "warn", `${count(gone)} gone`);
  else flag("batchers", held < of ? "warn" : "", "partitions without one");
};

let whyNoFiles = "";

const showWhyNoFiles = ({ files, files_unknown: why }) => {
  show($("files-note"), !files);
  if (files || why === whyNoFiles) return;
  whyNoFiles = why;
  $("files-note").replaceChildren(...prose(`Staging and published files are not seen from here: ${why}.`));
};

const showFiles = (status) => {
  const { files, rates, now } = status;
  setNumber($("staging-fragments"), files?.fragments, brief(files?.fragments));
  setText($("staging-rows"), files ? `${brief(files.fragment_rows)} rows, ${bytes(files.fragment_bytes)}` : NOTHING);
  const oldest = files?.oldest_fragment_s;
  setText($("staging-oldest"), files ? (oldest === null ? "nothing waits" : `oldest ${span(oldest)}`) : NOTHING);
  setNumber($("published-rows"), files?.published_rows, brief(files?.published_rows));
  setTitle($("published-rows"), files ? count(files.published_rows) : "");
  setText($("published-bytes"), files ? `${bytes(files.published_bytes)} in ${many(files.published_files, "file")}` : NOTHING);
  const last = files?.last_publishes.reduce((latest, { at }) => Math.max(latest, at), 0);
  const pace = rates && rates.published !== null ? `${rate(rates.published)}/s` : NOTHING;
  setText($("published-last"), files ? `${pace}, last ${last ? ago(last, now) : "not yet"}` : NOTHING);
  if (hasProblem(status, "publish lag")) flag("staging", "bad", "waits too long");
  else flag("staging", files?.quarantined > 0 ? "warn" : "", `${count(files?.quarantined)} damaged`);
  for (const id of ["staging", "published"]) $(`stage-${id}`).toggleAttribute("data-unseen", !files);
  showWhyNoFiles(status);
};

export const showFlow = (status) => {
  showIn(status);
  showBuffer(status);
  showBatchers(status);
  showFiles(status);
};
