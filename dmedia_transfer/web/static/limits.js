// The limits: what transfers may use, and when.

import { ask, get } from "./api.js";
import { make, moment, parseRate, rate } from "./format.js";
import { doing, toast } from "./tell.js";

const typed = (bps) => {
  if (bps === null) return "";
  for (const [unit, factor] of [["MB/s", 1e6], ["kB/s", 1e3]]) if (bps >= factor) return `${Number((bps / factor).toPrecision(6))} ${unit}`;
  return `${bps} B/s`;
};

export class Limits {
  constructor(form) {
    this.form = form;
    const field = (name, ...more) => (this[name] = make("input", ...more));
    const speed = { type: "text", autocomplete: "off", placeholder: "no limit" };
    this.now = make("p", { class: "quiet" });
    this.times = make("div", { class: "times" });
    form.replaceChildren(
      this.now,
      make("div", { class: "line" },
        make("label", {}, "Download", field("down", { ...speed })), make("label", {}, "Upload", field("up", { ...speed }))),
      make("div", { class: "line" },
        make("label", {}, "Transfers at once", field("most", { type: "number", min: "1", max: "64", required: true })),
        make("label", {}, "Connections of each", field("connections", { type: "number", min: "1", max: "64", required: true }))),
      make("fieldset", {}, make("legend", {}, "By the time of the day"), this.times,
        make("button", { type: "button", onclick: () => this.addTime({ time: "08:00", bps: null, stop: false }, true) }, "Add a time")),
      make("p", { class: "quiet" }, "Rates are like 2 MB/s; empty: no limit. After a restart of the daemon its configuration holds again."),
      make("div", { class: "actions" }, make("button", { class: "main" }, "Change limits")));
    this.edited = false;
    form.addEventListener("input", () => { this.edited = true; });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
  }

  // What somebody has typed and not sent stays.
  async load() {
    const limits = await get("/limits", {}, { machine: false });
    if (!this.edited) this.show(limits);
  }

  show(limits) {
    this.edited = false;
    this.down.value = typed(limits.download_bps);
    this.up.value = typed(limits.upload_bps);
    this.most.value = limits.max_transfers;
    this.connections.value = limits.connections;
    this.times.replaceChildren();
    for (const each of limits.timetable) this.addTime(each);
    const now = limits.stopped ? "no transfers" : limits.timetable_bps === null ? "no limit" : `at most ${rate(limits.timetable_bps)}`;
    this.now.textContent = limits.timetable.length
      ? `By the timetable, now: ${now}${limits.next_change ? `; until ${moment(limits.next_change)}` : ""}.` : "There is no timetable.";
  }

  addTime(entry, focus = false) {
    const time = make("input", { type: "time", value: entry.time, required: true });
    const speed = make("input", { type: "text", autocomplete: "off", placeholder: "no limit, or stop", value: entry.stop ? "stop" : typed(entry.bps) });
    const line = make("div", { class: "line" },
      make("label", {}, "From", time), make("label", {}, "Rate, or stop", speed),
      make("button", { type: "button", ariaLabel: `Remove the time ${entry.time}`, onclick: () => { this.edited = true; line.remove(); } }, "✕"));
    line.read = () => (speed.value.trim().toLowerCase() === "stop"
      ? { time: time.value, stop: true } : { time: time.value, bps: parseRate(speed.value) });
    this.times.append(line);
    if (!focus) return;
    this.edited = true;
    time.focus();
  }

  async send() {
    let body;
    try {
      body = {
        download_bps: parseRate(this.down.value) ?? 0, upload_bps: parseRate(this.up.value) ?? 0,
        max_transfers: Number(this.most.value), connections: Number(this.connections.value),
        timetable: [...this.times.children].map((line) => line.read()),
      };
    } catch (error) {
      toast(error.message, true);
      return;
    }
    const limits = await doing(() => ask("PATCH", "/limits", { body, machine: false }), "The limits hold from now on.");
    if (limits) this.show(limits);
  }
}
