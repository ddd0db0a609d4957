// The REST API: requests, and the event stream, which heals by itself.

export const BASE = "/api/v1";

export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "the daemon refused");
    this.code = problem.code ?? "";
    this.status = problem.status ?? 0;
  }
}

// Which machine is looked at: "" for this one.
export const where = { machine: "" };

export async function ask(method, path, { query = {}, body, machine = true } = {}) {
  const url = new URL(BASE + path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== "" && value !== null) url.searchParams.set(name, value);
  if (machine && where.machine) url.searchParams.set("machine", where.machine);
  let answer;
  try {
    answer = await fetch(url, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused({ detail: "the daemon does not answer" });
  }
  if (answer.status === 401) throw new Refused({ status: 401, detail: "this session is over: run `dmedia-transfer web` for a new link" });
  const text = await answer.text();
  if (!answer.ok) {
    let problem = { status: answer.status, title: answer.statusText };
    try { problem = JSON.parse(text); } catch { /* a proxy's page, maybe */ }
    throw new Refused(problem);
  }
  return text ? JSON.parse(text) : null;
}

export const get = (path, query, options) => ask("GET", path, { query, ...options });
export const post = (path, body, options) => ask("POST", path, { body, ...options });

// Follow the events after `from`. `hear(name, data)` gets each; `state` gets "live" and "lost".
export function follow(from, hear, state) {
  let source = null, last = from, timer = null, wait = 500, over = false;
  const open = () => {
    source = new EventSource(`${BASE}/events?last_event_id=${encodeURIComponent(last)}`);
    source.onopen = () => { wait = 500; state("live"); };
    source.onerror = () => {
      state("lost");
      source.close();
      // A browser gives up on some errors and never tries again: so we do it.
      if (!over) timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, 5000);
    };
    for (const name of ["reset", "transfers", "names", "progress", "jobs", "summary"]) {
      source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        hear(name, JSON.parse(event.data));
      });
    }
  };
  open();
  return () => { over = true; clearTimeout(timer); source?.close(); };
}
