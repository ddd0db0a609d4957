// The page: which view is seen, which machine is meant, and what events bring.

import { add } from "./adding.js";
import { follow, get, post, where } from "./api.js";
import { Book } from "./book.js";
import { Detail } from "./detail.js";
import { moment, rate } from "./format.js";
import { Graph } from "./graph.js";
import { Jobs } from "./jobs.js";
import { Limits } from "./limits.js";
import { List } from "./list.js";
import { loadStores, showHistory, showMachines, showProblems, showStores } from "./panels.js";
import { dragRows, moveByOne, onOrderKey } from "./order.js";
import { onKey } from "./steer.js";
import { doing, toast } from "./tell.js";
import { Uploads, takeDrops } from "./uploads.js";

const POLL_MS = 5000; // of another machine
const GATHER_MS = 100; // rows are arranged anew at most so often
const VIEWS = ["transfers", "problems", "jobs", "machines", "stores", "limits", "history"];
const HERE_ONLY = { jobs: "These are the imports and verifications of", limits: "These are the limits of",
  stores: "These are the stores as they are seen from" };
const CONNECTION = { live: "connected", lost: "connection lost, trying again", over: "not signed in" };

const $ = (id) => document.getElementById(id);
const book = new Book();
const find = (id) => book.get(id);
const detail = new Detail($("detail"), { find, move: (one, up) => moveByOne(one, up, book), closed: (id) => {
  list.select(null);
  const index = book.shown.indexOf(id);
  if (index >= 0) list.go(index);
  else $("list").focus();
} });
const open = (id) => { list.select(id); detail.open(id); };
const list = new List({ box: $("list"), rows: $("rows"), find, open,
  key: (event, one) => onOrderKey(event, one, book) || onKey(event, one) });
dragRows($("list"), book);
const graph = new Graph($("graph"), $("graph-text"), $("peak"));
const jobs = new Jobs($("jobs"));
const limits = new Limits($("limits"));
const uploads = new Uploads($("uploads"));
let summary = null, here = null, arranging = null, view = "transfers";

function arrange() {
  clearTimeout(arranging);
  arranging = null;
  book.arrange();
  list.set(book.shown);
  detail.show();
  const all = book.all.size, shown = book.shown.length;
  $("shown").textContent = shown === all ? `${all} in all` : `${shown} of ${all}`;
  $("count-transfers").textContent = all || "";
  $("empty").hidden = shown > 0;
  $("empty").textContent = all ? "No transfer is so." : "Nothing is on its way. Drop a file here, or press Add.";
}

const arrangeSoon = () => { arranging ??= setTimeout(arrange, GATHER_MS); };

function showSummary(told) {
  summary = told;
  if (!where.machine) here = told;
  $("rate-down").textContent = `↓ ${rate(told.download_rate)}`;
  $("rate-up").textContent = `↑ ${rate(told.upload_rate)}`;
  $("hold").setAttribute("aria-pressed", String(told.queue_paused));
  $("hold").textContent = told.queue_paused ? "Resume all" : "Pause all";
  const notes = [];
  if (where.machine) notes.push(`This is ${told.hostname}, as it told ${told.time ? `on ${moment(told.time)}` : "never"}. What you change reaches it when it syncs.`);
  if (told.queue_paused) notes.push("The whole queue is paused.");
  if (!told.online) notes.push("There is no connection to the network: what needs one waits.");
  if (told.metered) notes.push("The connection costs by the byte: what is large or not urgent waits.");
  $("note").textContent = notes.join(" ");
  $("note").hidden = !notes.length;
  document.title = `${told.active ? `${told.active} moving, ` : ""}${told.hostname}: transfers`;
}

async function refreshProblems() {
  try {
    const count = await showProblems(find, refreshProblems);
    $("count-problems").textContent = count || "";
  } catch (error) { quietly(error); }
}

// What fails in the background is shown as the state of the connection, not as a toast each time.
function quietly(error) {
  if (error.status === 401) connection("over");
  else console.warn(error.message);
}

function connection(state) {
  $("connection").dataset.state = state;
  const text = CONNECTION[state];
  if ($("connection").textContent !== text) $("connection").textContent = text;
  if (state !== "over") return;
  $("note").textContent = "This session is over. Run “dmedia-transfer web” on this machine, and open the link that it tells.";
  $("note").hidden = false;
}

async function loadMachines() {
  const machines = await showMachines(choose);
  const options = machines.filter((each) => !each.forgotten).sort((one, other) => other.this - one.this);
  $("machine").replaceChildren(...options.map((each) =>
    new Option(each.this ? `${each.hostname} (this machine)` : each.hostname || each.id, each.this ? "" : each.id)));
  $("machine").value = where.machine;
}

async function load() {
  try {
    const [told] = await Promise.all([get("/summary"), book.load()]);
    showSummary(told);
    arrange();
    await Promise.all([refreshProblems(), loadMachines(), graph.load()]);
    await showView();
  } catch (error) { quietly(error); }
}

async function poll() {
  if (!where.machine || document.hidden) return;
  const asked = where.machine;
  try {
    const [told, loaded] = await Promise.all([get("/summary"), book.load()]);
    if (!loaded || where.machine !== asked) return;
    showSummary(told);
    arrange();
  } catch (error) { quietly(error); }
}

function choose(machine) {
  where.machine = machine;
  $("machine").value = machine;
  document.querySelector(".graph").hidden = Boolean(machine);
  detail.close(false);
  location.hash = "#/transfers";
  load();
}

function hear(name, data) {
  if (name === "reset") return load();
  if (name === "jobs" || name === "progress") jobs.apply(name, data);
  if (name === "jobs") refreshSoon();
  if (name === "progress") graph.add(data.download_rate, data.upload_rate);
  if (where.machine) return undefined;
  if (name === "summary") {
    if (data.problems !== here?.problems) refreshSoon();
    return showSummary(data);
  }
  if (name === "progress") {
    $("rate-down").textContent = `↓ ${rate(data.download_rate)}`;
    $("rate-up").textContent = `↑ ${rate(data.upload_rate)}`;
  }
  if (name === "transfers") refreshSoon();
  if (book.apply(name, data)) arrangeSoon();
  else { list.soon(); detail.show(); }
  return undefined;
}

let refreshing = null;
const refreshSoon = () => { refreshing ??= setTimeout(() => { refreshing = null; refreshProblems(); if (view === "history") showHistory().catch(quietly); }, 500); };

// What a view tells of, where that is not the machine that was chosen.
function whose() {
  if (!where.machine || !HERE_ONLY[view]) return "";
  const name = $("machine").selectedOptions[0]?.text || "the other machine";
  return `${HERE_ONLY[view]} this machine, ${here?.hostname ?? ""}. What ${name} has is told by nobody else.`;
}

const SHOW = {
  transfers: () => undefined,
  problems: refreshProblems,
  jobs: async () => jobs.load(await loadStores()),
  machines: loadMachines,
  stores: showStores,
  limits: () => limits.load(),
  history: showHistory,
};

async function showView() {
  const wanted = location.hash.slice(2);
  view = VIEWS.includes(wanted) ? wanted : "transfers";
  for (const each of VIEWS) $(`view-${each}`).hidden = each !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${view}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    else link.removeAttribute("aria-current");
  }
  $("whose").textContent = whose();
  $("whose").hidden = !$("whose").textContent;
  list.soon();
  try { await SHOW[view](); } catch (error) { toast(error.message, true); }
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") { $("main").focus(); history.replaceState(null, "", `#/${view}`); return; }
  showView();
});
$("machine").addEventListener("change", (event) => choose(event.target.value));
$("add").addEventListener("click", () => add(uploads));
takeDrops(uploads, $("drop"));
$("hold").addEventListener("click", async () => {
  const held = summary?.queue_paused;
  await doing(() => post(held ? "/queue/resume" : "/queue/pause"), held ? "The queue goes on." : "The whole queue is paused.");
});
addEventListener("acted", poll); // another machine tells no events
$("filter").addEventListener("change", (event) => {
  book.statuses = new Set(event.target.value.split(" ").filter(Boolean));
  $("list").scrollTop = 0;
  arrange();
});
$("find").addEventListener("input", (event) => {
  book.text = event.target.value.trim();
  $("list").scrollTop = 0;
  arrange();
});
setInterval(poll, POLL_MS);
setInterval(() => { if (view === "stores" && !document.hidden) showStores().catch(quietly); }, POLL_MS * 6);

follow("", hear, async (state) => {
  connection(state);
  if (state === "lost") get("/summary", {}, { machine: false }).catch(quietly); // is it the session?
});
