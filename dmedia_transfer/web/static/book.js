// The book of transfers: all of one machine, in the order of its queue, kept up with what events tell.

import { called } from "./format.js";
import { get, where } from "./api.js";

const PAGE = 1000;
const ENDED = new Set(["done", "cancelled"]);

export const ended = (transfer) => ENDED.has(transfer.status);

const before = (one, other) =>
  ended(one) - ended(other) || other.priority - one.priority || one.order - other.order || (one.id < other.id ? -1 : 1);

export class Book {
  constructor() {
    this.all = new Map();
    this.statuses = new Set();
    this.text = "";
    this.shown = []; // what the filter lets through, in order
    this.loading = null;
    this.missed = []; // events that came while it was being read
  }

  // Read everything anew. What was begun for another machine, or before, is thrown away.
  async load() {
    const mine = (this.loading = Symbol("loading"));
    this.missed = [];
    const machine = where.machine;
    const found = new Map();
    try {
      // Pages can shift while they are read: what slipped between two of them is found in another round.
      for (let round = 0, total = 1; round < 3 && found.size < total; round++) {
        for (let offset = 0; offset < total; offset += PAGE) {
          const page = await get("/transfers", { sort: "queue", offset, limit: PAGE });
          if (this.loading !== mine) return false;
          for (const each of page.items) found.set(each.id, each);
          total = page.total;
        }
        if (machine) break;
      }
    } catch (error) {
      if (this.loading !== mine) return false;
      this.loading = null;
      throw error;
    }
    this.all = found;
    this.loading = null;
    for (const event of this.missed.splice(0)) this.apply(...event);
    this.arrange();
    return true;
  }

  // Take an event in; says whether the order or the number of rows may have changed.
  apply(name, data) {
    if (this.loading) {
      this.missed.push([name, data]);
      return false;
    }
    if (name === "progress") {
      for (const [id, bytes_done, bytes_total, rate, eta_s] of data.transfers) {
        const old = this.all.get(id);
        if (old) this.all.set(id, { ...old, bytes_done, bytes_total, rate, eta_s });
      }
      return false;
    }
    if (name === "names") {
      for (const [id, each] of this.all) if (each.file_id in data) this.all.set(id, { ...each, name: data[each.file_id] });
    } else if (name === "transfers") {
      for (const each of data.changed) this.all.set(each.id, { ...each, name: each.name ?? this.all.get(each.id)?.name ?? null });
      for (const id of data.removed) this.all.delete(id);
    }
    return true;
  }

  arrange() {
    const text = this.text.toLowerCase();
    this.shown = [...this.all.values()]
      .filter((each) => !this.statuses.size || this.statuses.has(each.status))
      .filter((each) => !text || called(each).toLowerCase().includes(text) || each.file_id.toLowerCase().startsWith(text))
      .sort(before)
      .map((each) => each.id);
  }

  get(id) {
    return this.all.get(id);
  }
}
