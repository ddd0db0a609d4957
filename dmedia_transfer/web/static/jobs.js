// The long jobs: imports and verifications, what they found, and how it is healed.

import { get, post } from "./api.js";
import { duration, make, percent, rate, size } from "./format.js";
import { RESTING } from "./steer.js";
import { confirmed, doing } from "./tell.js";

const OVER = new Set(["done", "failed", "cancelled"]);
const local = { machine: false };

export const verify = (store) =>
  doing(() => post("/jobs", { kind: "verify", store_id: store.id, requested_by: "page" }, local),
    `Every file of ${store.name || store.id} is read and proved anew; see Jobs.`);

export const heal = (file_id) =>
  doing(() => post(`/files/${file_id}/heal`, undefined, local), "It is brought here again, as far as it is not good.");

export const resend = (file_id, store_id) => {
  const body = { action: "upload", file_ids: [file_id], store_id, priority: 10, requested_by: "page" };
  return doing(() => post("/transfers", body, local), "It is sent there again.");
};

const verbs = (job) => {
  const say = (verb, said) => () => doing(() => post(`/jobs/${job.id}/${verb}`, undefined, local), said);
  const giveUp = async () => {
    if (await confirmed("Give this job up?", "What is done stays.", "Give it up", "Keep it")) await say("cancel", "Cancelled.")();
  };
  if (job.status === "failed") return [["Retry", say("retry", "It goes on.")], ["Forget", say("forget", "Forgotten.")]];
  if (OVER.has(job.status)) return [["Forget", say("forget", "Forgotten.")]];
  return [RESTING.has(job.status) ? ["Resume", say("resume", "It goes on.")] : ["Pause", say("pause", "Paused.")], ["Cancel", giveUp]];
};

class Card {
  constructor() {
    const put = (name, ...more) => (this[name] = make(...more));
    this.asked = false;
    this.element = make("article", { class: "card" },
      put("head", "h3"), put("state", "p"), put("bar", "progress", { max: 100, ariaLabel: "Progress of this job" }),
      put("numbers", "p", { class: "quiet" }), put("outcomes", "p"), put("actions", "div", { class: "actions" }),
      put("found", "details", { hidden: true, ontoggle: () => this.look() }, put("summary", "summary"), put("list", "ul", { class: "plain" })));
  }

  show(job, stores) {
    const before = this.job;
    this.job = job;
    this.stores = stores;
    const store = stores.get(job.store_id)?.name || job.store_id;
    this.head.textContent = job.kind === "verify" ? `Verification of ${store}` : `Import of ${job.paths.join(", ")}`;
    this.state.textContent = [job.status, job.why, job.error].filter(Boolean).join(": ");
    this.bar.value = job.status === "done" ? 100 : percent(job.bytes_done, job.bytes_total);
    const total = job.listed ? "" : " or more";
    this.numbers.textContent = `${job.files_done} of ${job.files_total}${total} files, ${size(job.bytes_done)} of ${size(job.bytes_total)}`
      + (job.status === "ongoing" ? `, ${rate(job.rate)}${job.eta_s === null ? "" : `, ${duration(job.eta_s)} left`}` : "");
    this.outcomes.textContent = Object.entries(job.outcomes).map(([word, count]) => `${count} ${word}`).join(", ");
    // Buttons are made anew only if they are others, or the focus would get lost on each progress.
    if (before?.status !== job.status) {
      this.actions.replaceChildren(...verbs(job).map(([text, action]) => make("button", { type: "button", onclick: action }, text)));
    }
    this.found.hidden = !job.problems;
    this.summary.textContent = `${job.problems} ${job.problems === 1 ? "file needs" : "files need"} attention`;
    if (this.found.open && before?.problems !== job.problems) this.look();
  }

  // A copy of this machine comes from elsewhere again; one in another store is sent there again.
  remedy({ file_id, store_id }) {
    const store = this.stores.get(store_id);
    const [text, action] = store && !store.local ? ["Send again", () => resend(file_id, store_id)] : ["Heal", () => heal(file_id)];
    return make("button", { type: "button", onclick: action }, text);
  }

  async look() {
    if (!this.found.open) return;
    const { items } = await get(`/jobs/${this.job.id}/problems`, { limit: 200 }, local);
    this.list.replaceChildren(...items.map((each) => make("li", {},
      make("strong", {}, each.outcome), ` ${each.path || each.file_id}: ${each.message} `,
      each.file_id && (each.outcome === "corrupt" || each.outcome === "missing") ? this.remedy(each) : "")));
  }
}

export class Jobs {
  constructor(box) {
    this.cards = new Map();
    this.all = new Map();
    this.stores = new Map();
    this.list = make("div", { class: "cards" });
    this.none = make("p", { class: "quiet" }, "No job yet. Stores can be verified from the Stores view.");
    this.path = make("input", { type: "text", autocomplete: "off", required: true, placeholder: "/home/me/Videos" });
    this.store = make("select", {}, make("option", { value: "" }, "the one with the most room"));
    const form = make("form", { class: "card form" },
      make("h3", {}, "Import a folder or file of this machine"),
      make("div", { class: "line" }, make("label", {}, "Path", this.path), make("label", {}, "Into", this.store), make("button", { class: "main" }, "Import")));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const body = { kind: "import", paths: [this.path.value.trim()], store_id: this.store.value, requested_by: "page" };
      if (await doing(() => post("/jobs", body, local), "The import has begun.")) this.path.value = "";
    });
    box.replaceChildren(form, this.none, this.list);
  }

  async load(stores) {
    this.stores = stores;
    const chosen = this.store.value;
    this.store.replaceChildren(this.store.firstElementChild,
      ...[...stores.values()].filter((each) => each.local).map((each) => make("option", { value: each.id }, each.name || each.where)));
    this.store.value = stores.get(chosen)?.local ? chosen : "";
    const { items } = await get("/jobs", {}, local);
    this.all = new Map(items.map((each) => [each.id, each]));
    this.draw();
  }

  apply(name, data) {
    if (name === "jobs") {
      for (const each of data.changed) this.all.set(each.id, each);
      for (const id of data.removed) this.all.delete(id);
    } else {
      for (const [id, bytes_done, bytes_total, speed, eta_s, files_done] of data.jobs) {
        const old = this.all.get(id);
        if (old) this.all.set(id, { ...old, bytes_done, bytes_total, rate: speed, eta_s, files_done });
      }
    }
    this.draw();
  }

  draw() {
    for (const [id, card] of this.cards) {
      if (this.all.has(id)) continue;
      card.element.remove();
      this.cards.delete(id);
    }
    for (const [id, job] of this.all) {
      let card = this.cards.get(id);
      if (!card) {
        this.cards.set(id, (card = new Card()));
        this.list.prepend(card.element);
      }
      card.show(job, this.stores);
    }
    this.none.hidden = this.all.size > 0;
  }
}
