// The panels: machines, stores, problems, history.

import { get } from "./api.js";
import { make, moment, rate, size } from "./format.js";
import { heal, resend, verify } from "./jobs.js";
import { cancel, retry } from "./steer.js";

const put = (id, cards, none) =>
  document.getElementById(id).replaceChildren(...(cards.length ? cards : [make("p", { class: "quiet" }, none)]));
const card = (head, ...more) => make("article", { class: "card" }, make("h3", {}, head), ...more);
const quiet = (text) => (text ? make("p", { class: "quiet" }, text) : "");
const list = (texts) => (texts.length ? make("ul", { class: "plain" }, ...texts.map((each) => make("li", { class: "warn" }, each))) : "");

export async function showMachines(go) {
  const { items } = await get("/machines", {}, { machine: false });
  put("machines", items.map((each) => {
    const counts = Object.entries(each.counts).map(([word, count]) => `${count} ${word}`).join(", ");
    return card(each.hostname || each.id,
      quiet(each.this ? "this machine" : each.forgotten ? "forgotten: it is trusted no more" : each.heard ? `heard of ${moment(each.heard)}` : "never heard of"),
      make("p", {}, each.queued === null ? "Its queue cannot be read." : `${each.queued} in its queue${each.queue_paused ? ", which is paused" : ""}`),
      quiet(counts), quiet(each.download_rate || each.upload_rate ? `↓ ${rate(each.download_rate)} ↑ ${rate(each.upload_rate)}` : ""),
      list(each.problems),
      each.forgotten ? "" : make("div", { class: "actions" },
        make("button", { type: "button", ariaLabel: `Look at it: ${each.hostname}`, onclick: () => go(each.this ? "" : each.id) }, "Look at it")));
  }), "No machine is known.");
  return items;
}

export async function loadStores() {
  const { items } = await get("/stores", {}, { machine: false });
  return new Map(items.map((each) => [each.id, each]));
}

export async function showStores() {
  const stores = await loadStores();
  put("stores", [...stores.values()].map((each) => {
    const used = each.total_bytes ? each.total_bytes - (each.free_bytes ?? 0) : 0;
    return card(each.name || each.id, quiet([each.plugin, each.where].filter(Boolean).join(", ")),
      each.usable ? make("p", { class: "good" }, each.local ? "on this machine" : "can be used") : make("p", { class: "bad" }, each.problem || "cannot be used"),
      each.usable ? "" : quiet(each.advice),
      each.total_bytes ? make("progress", { max: each.total_bytes, value: used, ariaLabel: `Space used of ${each.name || each.id}` }) : "",
      quiet(each.free_bytes === null ? "" : `${size(each.free_bytes)} free of ${size(each.total_bytes)}`),
      each.usable ? make("div", { class: "actions" },
        make("button", { type: "button", ariaLabel: `Verify ${each.name || each.id}`, onclick: () => verify(each) }, "Verify")) : "");
  }), "No store is known. `dmedia-transfer store` adds one.");
  return stores;
}

// `after` is called when something was done about a problem.
export async function showProblems(find, after) {
  const { items } = await get("/problems");
  const button = (text, label, action) =>
    make("button", { type: "button", ariaLabel: label, onclick: async () => { await action(); after(); } }, text);
  put("problems", items.map((each) => {
    const one = find(each.transfer_id) ?? { id: each.transfer_id, file_id: each.file_id ?? "", name: null };
    const name = one.name || each.file_id?.slice(0, 12) || "";
    const does = { retry: () => retry(one), cancel: () => cancel(one), heal: () => heal(each.file_id), upload: () => resend(each.file_id, each.store_id) };
    const words = { retry: "Retry", cancel: "Cancel", heal: "Heal", upload: "Send again" };
    return card(name || "This machine", make("p", { class: "bad" }, each.message), each.advice ? make("p", {}, each.advice) : "",
      each.can.length ? make("div", { class: "actions" }, ...each.can.map((verb) => button(words[verb], `${words[verb]} ${name}`, does[verb]))) : "");
  }), "Nothing needs your attention.");
  return items.length;
}

export async function showHistory() {
  const { items, total } = await get("/history", { limit: 200 });
  const head = ["", "File", "Ended", "When", "Size"].map((each, index) =>
    make("th", { scope: "col", class: index === 4 ? "number" : "" }, each || make("span", { class: "hidden" }, "Direction")));
  const rows = items.map((each) => make("tr", {},
    make("td", {}, make("span", { ariaHidden: "true" }, each.action === "download" ? "↓" : "↑"), make("span", { class: "hidden" }, each.action)),
    make("td", {}, each.name || each.file_id.slice(0, 12)),
    make("td", { class: each.status === "failed" ? "bad" : "" }, each.error ? `${each.status}: ${each.error}` : each.status),
    make("td", {}, moment(each.time)), make("td", { class: "number" }, size(each.bytes))));
  const box = document.getElementById("history");
  box.replaceChildren(rows.length
    ? make("div", { class: "wide", tabIndex: 0, role: "region", ariaLabel: "What has ended" },
      make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)))
    : make("p", { class: "quiet" }, "Nothing has ended yet."));
  if (total > items.length) box.append(quiet(`The latest ${items.length} of ${total}.`));
}
