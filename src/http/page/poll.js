// Asking again and again, only while somebody looks, and less often while no answer comes.

const LONGEST_PAUSE_MS = 30_000;
const ANSWER_WITHIN_MS = 8_000;

/** What an answer other than 200 says, and its status; 0 where there was none. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const detailOf = async (response) => {
  try {
    const problem = await response.json();
    return typeof problem.detail === "string" ? problem.detail : "";
  } catch {
    return "";
  }
};

const ask = async (path, signal) => {
  let response;
  try {
    response = await fetch(path, { signal, cache: "no-store", credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (signal.reason === "stopped") throw error;
    throw new Refused(0, signal.aborted ? "It did not answer in time." : "It cannot be reached.");
  }
  if (!response.ok) throw new Refused(response.status, await detailOf(response));
  try {
    return await response.json();
  } catch {
    throw new Refused(0, "Its answer broke off.");
  }
};

/**
 * Asks `path` every `everyMs`, once started and while the page is visible. `answered(body)` gets each answer,
 * `failed(refused, pauseMs)` each fault; when that returns false, asking ends until the next `start`.
 */
export const poller = ({ path, everyMs, answered, failed }) => {
  let running = false;
  let timer = 0;
  let inFlight = null;
  let failures = 0;

  const stopWork = () => {
    clearTimeout(timer);
    inFlight?.abort("stopped");
    inFlight = null;
  };

  const again = (pauseMs) => {
    if (running && !document.hidden) timer = setTimeout(once, pauseMs);
  };

  const once = async () => {
    stopWork();
    const own = new AbortController();
    inFlight = own;
    const deadline = setTimeout(() => own.abort("late"), ANSWER_WITHIN_MS);
    let pauseMs = everyMs;
    try {
      const body = await ask(path, own.signal);
      if (inFlight !== own) return;
      failures = 0;
      answered(body);
    } catch (fault) {
      if (inFlight !== own) return;
      if (!(fault instanceof Refused)) throw fault;
      failures += 1;
      pauseMs = Math.min(LONGEST_PAUSE_MS, everyMs * 2 ** Math.min(failures - 1, 6));
      if (failed(fault, pauseMs) === false) running = false;
    } finally {
      clearTimeout(deadline);
      if (inFlight === own) {
        inFlight = null;
        again(pauseMs);
      }
    }
  };

  const look = () => {
    if (document.hidden) stopWork();
    else if (running) once();
  };
  document.addEventListener("visibilitychange", look);
  addEventListener("online", look);
  addEventListener("pageshow", (event) => event.persisted && look());

  return {
    start: () => {
      running = true;
      failures = 0;
      look();
    },
    stop: () => {
      running = false;
      stopWork();
    },
  };
};
