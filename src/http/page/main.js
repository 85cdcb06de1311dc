// What the page does: ask while somebody looks, show what comes, say so when nothing does, let people in and out.

import { $, setText, setTitle, show } from "./dom.js";
import { clock, exact, wholeSpan, words } from "./format.js";
import { showFlow, showRefusal, showSilence, showVerdict } from "./flow.js";
import { showDays, showHistory } from "./past.js";
import { poller } from "./poll.js";
import { showTables } from "./tables.js";

const STATUS_EVERY_MS = 2_000;
const HISTORY_EVERY_MS = 10_000;

/** When the last answer came, by the server's clock. */
let answeredAt = null;

const setState = (state) => {
  document.documentElement.dataset.state = state;
  show($("login"), state === "login");
  show($("content"), state !== "login" && state !== "forbidden");
};

const fresh = (text, title = "") => {
  setText($("fresh-text"), text);
  setTitle($("fresh"), title);
};

const SEND = (origin) =>
  `curl -H 'content-type: application/json' ${origin}/v1/heartbeats \\\n  -d "{\\"user_id\\":\\"ada\\",\\"device_id\\":\\"laptop\\",\\"timestamp\\":\\"$(date -u +%FT%TZ)\\"}"`;

/** No script can see the cookie itself; what is kept is only that there is one to be rid of. */
const LOGGED_IN = "systole.logged-in";

const remember = (loggedIn) => {
  try {
    if (loggedIn) localStorage.setItem(LOGGED_IN, "yes");
    else localStorage.removeItem(LOGGED_IN);
  } catch {
    // A browser that keeps nothing for this site keeps no cookie for it either.
  }
};

const isLoggedIn = () => {
  try {
    return localStorage.getItem(LOGGED_IN) !== null;
  } catch {
    return false;
  }
};

const showAbout = ({ version, role, uptime_s }) => {
  setText($("about"), `${version}, systole ${words(role)}, running for ${wholeSpan(uptime_s)}`);
  show($("logout"), isLoggedIn());
};

const answered = (status) => {
  answeredAt = status.now;
  setState("live");
  fresh(clock(status.now), `As of ${exact(status.now)}`);
  showAbout(status);
  show($("first"), status.books?.accepted === 0);
  setText($("first-command"), SEND(location.origin));
  showVerdict(status);
  showFlow(status);
  showTables(status);
  showDays(status);
};

const failed = (refused, pauseMs) => {
  if (refused.status === 401) return askForToken();
  if (refused.status === 403) return sayForbidden(refused.message);
  setState(answeredAt === null ? "waiting" : "stale");
  fresh(answeredAt === null ? "no answer yet" : `no answer since ${clock(answeredAt)}`);
  showSilence(answeredAt, refused.message || `It answered ${refused.status}.`, pauseMs);
  return true;
};

const status = poller({ path: "/v1/status", everyMs: STATUS_EVERY_MS, answered, failed });
const history = poller({ path: "/v1/status/history", everyMs: HISTORY_EVERY_MS, answered: showHistory, failed: (refused) => refused.status !== 401 && refused.status !== 403 });

const start = () => {
  status.start();
  history.start();
};

const askForToken = () => {
  history.stop();
  remember(false);
  const already = document.documentElement.dataset.state === "login";
  setState("login");
  fresh("logged out");
  show($("logout"), false);
  showRefusal("Log in to see it", "How this collector is, it tells only to those who may know.");
  if (!already) $("token").focus();
  return false;
};

const sayForbidden = (detail) => {
  history.stop();
  setState("forbidden");
  fresh("not allowed");
  show($("logout"), true);
  showRefusal("This token is not for this page", `${detail} It needs the scope admin. Log out, and in again with one that has it.`);
  return false;
};

const send = (path, body) =>
  fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
  });

const logIn = async (event) => {
  event.preventDefault();
  const field = $("token");
  const fault = $("login-fault");
  setText(fault, "");
  try {
    const answer = await send("/login", { token: field.value.trim() });
    if (answer.ok) {
      field.value = "";
      remember(true);
      start();
      $("main").focus();
    } else {
      const problem = await answer.json().catch(() => ({}));
      setText(fault, answer.status === 401 ? "This token is not known here, or is no longer good." : problem.detail || `It answered ${answer.status}.`);
      field.select();
    }
  } catch {
    setText(fault, "There was no answer. Try again.");
  }
};

const logOut = async () => {
  const answer = await send("/logout", {}).catch(() => null);
  // Without an answer the cookie is still there, and so is the way to try again.
  if (!answer?.ok) return;
  remember(false);
  status.stop();
  answeredAt = null;
  start();
};

$("login").addEventListener("submit", logIn);
$("logout").addEventListener("click", logOut);
start();
