// The verdict, what is wrong and what to do, and the way of the heartbeats with its numbers.

import { $, el, prose, setBar, setNumber, setText, setTitle, show } from "./dom.js";
import { NOTHING, ago, brief, bytes, clock, count, exact, many, percent, rate, sentence, span, wholeSpan, words } from "./format.js";

/** From here on a buffer is called nearly full. */
const NEARLY_FULL = 0.8;

/** A look at the buffer that is older than this is said to be. */
const STALE_LOOK_S = 10;

/** How full a store is: by whichever of its two caps is nearer. */
export const fullness = ({ heartbeats, heartbeats_max, bytes: size, bytes_max }) => {
  const by = (part, of) => (of > 0 ? part / of : 0);
  return Math.max(by(heartbeats, heartbeats_max), by(size, bytes_max));
};

export const levelOf = (fraction) => {
  if (fraction >= 0.995) return "bad";
  return fraction >= NEARLY_FULL ? "warn" : "";
};

const LEVEL_WORDS = { bad: "full", warn: "nearly full", "": "" };

const setVerdict = (look, text, more) => {
  $("verdict").dataset.look = look;
  setText($("verdict-text"), text);
  setText($("verdict-more"), more);
};

const refusedInAll = (refused) => (refused ?? []).reduce((sum, { heartbeats }) => sum + heartbeats, 0);

const summary = ({ rates, buffer, books }) => {
  if (books && books.accepted === 0) return "It is ready for the first heartbeat.";
  const oldest = buffer?.oldest_pending_s;
  const waiting = oldest === null || oldest === undefined ? "Nothing waits." : `The oldest that waits came ${span(oldest)} ago.`;
  if (typeof rates?.in !== "number") return `How many come in is not known yet. ${waiting}`;
  return `${rate(rates.in)} heartbeats a second come in, ${rate(rates.out)} are written. ${waiting}`;
};

/** Where on the page more is to be seen of a part. */
const PLACES = [
  [/batcher|lease/, "batchers-title"],
  [/dead/, "letters-title"],
  [/silen/, "silent-title"],
  [/disk|compact|publish|quarantine|fragment|staging|files/, "publishes-title"],
  [/book|audit/, "books-title"],
  [/buffer|partition|redis|spill|monitor/, "partitions-title"],
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
  showProblems(problems);
  if (well) {
    const noted = problems.length ? `, but look at ${problems.length === 1 ? "this" : "these"}` : "";
    setVerdict(problems.length ? "noted" : "well", `All is well${noted}`, summary(status));
    document.title = "Systole: all is well";
  } else {
    const n = Math.max(1, problems.length);
    setVerdict("unwell", n === 1 ? "Something is wrong" : `${n} things are wrong`, summary(status));
    document.title = `(${n}) Systole: ${n === 1 ? "something is wrong" : `${n} things are wrong`}`;
  }
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

const showBuffer = ({ buffer }) => {
  const known = Boolean(buffer);
  setNumber($("buffer-waiting"), buffer?.heartbeats, brief(buffer?.heartbeats));
  setTitle($("buffer-waiting"), known ? count(buffer.heartbeats) : "");
  // A partition that is full refuses its users, however empty the others are.
  const fullest = known ? buffer.partitions.reduce((most, one) => Math.max(most, fullness(one)), 0) : 0;
  const whole = known ? fullness(buffer) : 0;
  const level = levelOf(Math.max(fullest, whole));
  setBar($("buffer-bar"), whole, levelOf(whole));
  setText($("buffer-fill"), known ? `${percent(whole, 1)} full` : "not known now");
  const oldest = buffer?.oldest_pending_s;
  setText($("buffer-oldest"), known ? (oldest === null ? "nothing waits" : `oldest ${span(oldest)}`) : NOTHING);
  if (known && buffer.looked_s > STALE_LOOK_S) return flag("buffer", "warn", `as of ${wholeSpan(buffer.looked_s)} ago`);
  return flag("buffer", level, levelOf(whole) === level ? LEVEL_WORDS[level] : `a partition is ${LEVEL_WORDS[level]}`);
};

const showBatchers = ({ batchers, rates, buffer }) => {
  const alive = batchers?.filter((one) => one.alive) ?? [];
  const gone = (batchers?.length ?? 0) - alive.length;
  setNumber($("batchers-alive"), batchers ? alive.length : null, count(batchers ? alive.length : null));
  setNumber($("out-rate"), rates?.out, rate(rates?.out));
  const of = buffer?.partitions.length;
  const held = new Set(alive.flatMap((one) => one.partitions)).size;
  setText($("batchers-partitions"), of === undefined ? NOTHING : `${held} of ${many(of, "partition")}`);
  if (!batchers) flag("batchers", "");
  else if (alive.length === 0) flag("batchers", "bad", "none alive");
  else if (gone > 0) flag("batchers", "warn", `${count(gone)} gone`);
  else flag("batchers", held < of ? "warn" : "", "partitions without one");
};

const showFiles = ({ files, rates, now }) => {
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
  flag("staging", files?.quarantined > 0 ? "warn" : "", `${count(files?.quarantined)} quarantined`);
  for (const id of ["staging", "published"]) $(`stage-${id}`).toggleAttribute("data-unseen", !files);
  show($("files-note"), !files);
};

export const showFlow = (status) => {
  showIn(status);
  showBuffer(status);
  showBatchers(status);
  showFiles(status);
};
