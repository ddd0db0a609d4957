// A row: one transfer in the list.

import { called, duration, make, percent, rate, size } from "./format.js";
import { RESTING, cancel, toggle } from "./steer.js";

const WORDS = { ongoing: "moving", queued: "waiting for its turn", pausing: "pausing", paused: "paused",
  suspended: "waiting", done: "done", failed: "failed", cancelled: "cancelled" };

// What a transfer is doing, and why it does not move, in a line.
export function state(one) {
  // That a person paused it, or that it failed, is said by the word already.
  const why = one.status === "failed" ? one.error?.message : RESTING.has(one.status) ? "" : one.why;
  if (!why) return WORDS[one.status];
  return one.status === "failed" ? `failed: ${why}` : why;
}

export function bytes(one) {
  return one.bytes_total ? `${size(one.bytes_done)} of ${size(one.bytes_total)}` : size(one.bytes_done);
}

function pace(one) {
  if (one.status !== "ongoing") return "";
  const left = one.eta_s === null ? "" : `, ${duration(one.eta_s)} left`;
  return `${rate(one.rate)}${left}`;
}

const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

export class Row {
  constructor(current) {
    const span = (name) => make("span", { class: name });
    const button = (name, action) =>
      make("button", { type: "button", class: name, tabIndex: -1, onclick: (event) => { event.stopPropagation(); action(); } });
    this.one = null;
    this.name = span("name");
    this.status = span("status");
    this.done = span("done");
    this.left = span("left");
    this.arrow = make("span", { class: "arrow" });
    this.grip = make("span", { class: "grip", ariaHidden: "true", title: "Drag to move it in the queue" }, "⠿");
    this.bar = make("progress", { class: "bar", max: 100 });
    this.go = button("go", () => toggle(current(this.id)));
    this.stop = button("cancel", () => cancel(current(this.id)));
    this.element = make("li", { class: "row", tabIndex: -1, draggable: true }, this.arrow, this.grip, this.name, this.status, this.bar, this.done, this.left,
      make("span", { class: "do" }, this.go, this.stop));
  }

  show(one) {
    if (one === this.one) return;
    this.one = one;
    this.id = one.id;
    this.element.dataset.id = one.id;
    this.element.dataset.status = one.status;
    this.element.className = `row ${one.status}`;
    const name = called(one);
    const down = one.action === "download";
    this.arrow.replaceChildren(
      make("span", { ariaHidden: "true" }, down ? "↓" : "↑"), make("span", { class: "hidden" }, down ? "Download" : "Upload"));
    set(this.name, name);
    this.name.title = name;
    const told = state(one);
    set(this.status, told);
    this.status.title = told;
    this.bar.value = one.status === "done" ? 100 : percent(one.bytes_done, one.bytes_total);
    this.bar.setAttribute("aria-label", `Progress of ${name}`);
    set(this.done, bytes(one));
    set(this.left, pace(one));
    const verb = one.status === "failed" ? ["↻", "Retry"] : RESTING.has(one.status) ? ["▶", "Resume"] : ["❚❚", "Pause"];
    const over = one.status === "done" || one.status === "cancelled";
    set(this.go, verb[0]);
    this.go.setAttribute("aria-label", `${verb[1]} ${name}`);
    this.go.title = verb[1];
    this.go.hidden = over;
    set(this.stop, "✕");
    this.stop.setAttribute("aria-label", `Cancel ${name}`);
    this.stop.title = "Cancel";
    this.stop.hidden = this.grip.hidden = over;
  }

  place(index, count, top) {
    this.element.style.transform = `translateY(${top}px)`;
    this.element.setAttribute("aria-posinset", index + 1);
    this.element.setAttribute("aria-setsize", count);
  }

  // Only the current row and its buttons are stops of the Tab key.
  stops(current) {
    this.element.tabIndex = current ? 0 : -1;
    this.go.tabIndex = this.stop.tabIndex = current ? 0 : -1;
  }
}
