// The details of one transfer: what is wrong, where it comes from, what can be done.

import { get, where } from "./api.js";
import { STEPS, called, duration, make, moment, percent, priority, rate, size } from "./format.js";
import { showMap } from "./leafmap.js";
import { bytes, state } from "./row.js";
import { RESTING, allowCost, cancel, prioritize, retry, toggle } from "./steer.js";

const EVERY_MS = 2000;
const SOURCE_WORDS = { active: "gives", waiting: "waits", demoted: "set aside" };

export class Detail {
  // `find(id)`: the transfer; `move(transfer, up)`: change places with a neighbour; `closed(id)`: it is seen no more.
  constructor(aside, { find, move, closed }) {
    Object.assign(this, { aside, find, move, closed });
    this.id = null;
    this.timer = null;
    aside.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  open(id) {
    this.close(false);
    this.id = id;
    this.shown = null;
    const one = this.find(id);
    const put = (name, ...more) => (this[name] = make(...more));
    this.aside.replaceChildren(
      make("div", { class: "head" }, put("name", "h3", { tabIndex: -1 }),
        make("button", { type: "button", ariaLabel: "Close details", onclick: () => this.close() }, "✕")),
      put("state", "p"), put("trouble", "div", { role: "group" }),
      put("bar", "progress", { max: 100, ariaLabel: "Progress" }), put("numbers", "p", { class: "quiet" }),
      put("actions", "div", { class: "actions" }),
      put("map", "div", { hidden: true }), put("sources", "div"), put("facts", "dl", { class: "facts quiet" }));
    this.buttons(one);
    this.aside.hidden = false;
    this.show();
    this.look();
    this.timer = setInterval(() => this.look(), EVERY_MS);
    this.name.focus({ preventScroll: true });
  }

  close(back = true) {
    if (this.id === null) return;
    clearInterval(this.timer);
    const id = this.id;
    this.id = null;
    this.aside.hidden = true;
    if (back) this.closed(id);
  }

  buttons(one) {
    const button = (action, bad = false) => make("button", { type: "button", class: bad ? "bad" : "", onclick: action });
    const current = () => this.find(this.id) ?? one;
    this.go = button(() => toggle(current()));
    this.again = button(() => retry(current()));
    this.stop = button(() => cancel(current()), true);
    this.sooner = button(() => this.move(current(), true));
    this.later = button(() => this.move(current(), false));
    this.sooner.append("Move up");
    this.later.append("Move down");
    this.again.append("Retry");
    this.stop.append("Cancel");
    this.urgent = make("select", { onchange: (event) => prioritize(current(), Number(event.target.value)) },
      ...STEPS.map((each) => make("option", { value: String(each) }, priority(each))));
    this.cost = make("input", { type: "checkbox", onchange: (event) => allowCost(current(), event.target.checked) });
    this.costs = make("label", { class: "check" }, this.cost, " also where a connection costs");
    this.actions.append(this.go, this.again, this.stop, this.sooner, this.later,
      make("label", { class: "inline" }, "Priority ", this.urgent), this.costs);
  }

  // The transfer may have changed.
  show() {
    if (this.id === null) return;
    const one = this.find(this.id);
    if (one === this.shown) return;
    this.shown = one;
    if (!one) {
      this.state.textContent = "It is not in the queue any more; the history tells how it ended.";
      this.actions.hidden = true;
      this.trouble.replaceChildren();
      return;
    }
    this.actions.hidden = false;
    const over = one.status === "done" || one.status === "cancelled";
    this.name.textContent = called(one);
    this.state.textContent = `${one.action === "download" ? "Download" : "Upload"}, ${state(one)}`;
    this.bar.value = percent(one.bytes_done, one.bytes_total);
    this.aside.className = one.status;
    const left = one.status === "ongoing" && one.eta_s !== null ? `, ${duration(one.eta_s)} left` : "";
    this.numbers.textContent = `${bytes(one)}${one.status === "ongoing" ? `, ${rate(one.rate)}${left}` : ""}`;
    this.trouble.replaceChildren(...(one.error ? [
      make("p", { class: "bad" }, one.error.message),
      one.error.advice ? make("p", {}, one.error.advice) : "",
      one.attempts > 1 ? make("p", { class: "quiet" }, `${one.attempts} attempts in a row have failed.`) : "",
    ] : []).filter(Boolean));
    this.go.textContent = RESTING.has(one.status) ? "Resume" : "Pause";
    this.go.hidden = over || one.status === "failed";
    this.again.hidden = one.status !== "failed";
    this.stop.hidden = this.sooner.hidden = this.later.hidden = over;
    if (!STEPS.includes(one.priority) && ![...this.urgent.options].some((each) => each.value === String(one.priority))) {
      this.urgent.append(make("option", { value: String(one.priority) }, String(one.priority)));
    }
    this.urgent.value = String(one.priority);
    this.cost.checked = one.metered;
    const facts = [["Asked for", moment(one.time)], ["By", one.requested_by], ["File", one.file_id], ["To store", one.action === "upload" ? one.store_id : ""]];
    this.facts.replaceChildren(...facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  // What is not told by events: the sources, and which leaves are there.
  async look() {
    const id = this.id;
    if (where.machine || document.hidden || !this.find(id)) return;
    const ask = (what) => get(`/transfers/${encodeURIComponent(id)}/${what}`, {}, { machine: false });
    let found, map;
    try {
      [found, map] = await Promise.all([ask("sources"), ask("leaves")]);
    } catch {
      return; // the connection is shown elsewhere; or it has just ended
    }
    if (this.id !== id) return;
    this.showSources(found.items);
    showMap(this.map, map);
  }

  showSources(items) {
    const rows = items.map((each) => {
      const use = each.use;
      const doing = use ? SOURCE_WORDS[use.state] : each.usable ? "can be used" : "not usable";
      const why = use?.reason || each.problem;
      return make("tr", {},
        make("td", {}, each.name || each.store_id),
        make("td", { class: each.usable && use?.state !== "demoted" ? "" : "warn" }, why ? `${doing}: ${why}` : doing),
        make("td", { class: "number" }, use ? size(use.received_bytes) : ""),
        make("td", { class: "number" }, use && use.state === "active" ? rate(use.rate) : ""));
    });
    const head = ["Store", "State", "Bytes", "Rate"].map((each, index) => make("th", { scope: "col", class: index > 1 ? "number" : "" }, each));
    this.sources.replaceChildren(make("h4", {}, "Where the file is"),
      rows.length ? make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))
        : make("p", { class: "warn" }, "No store is known to have it."));
  }
}
