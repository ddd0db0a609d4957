// Adding: new files are sent; one of the library is found, and brought here or sent to a store.

import { get, post, where } from "./api.js";
import { STEPS, make, priority, size } from "./format.js";
import { dialog, doing } from "./tell.js";
import { loadStores } from "./panels.js";

const WAIT_MS = 250;

export async function add(uploads) {
  let stores;
  try {
    stores = [...(await loadStores()).values()];
  } catch {
    stores = []; // a download needs none
  }
  await dialog("Add a transfer", (close) => new Adding(close, stores, uploads).parts);
}

class Adding {
  constructor(close, stores, uploads) {
    Object.assign(this, { close, stores });
    this.uploads = uploads;
    this.timer = null;
    this.find = make("input", { type: "search", autocomplete: "off", autofocus: true, oninput: () => this.soon() });
    this.urgency = make("select", {}, ...STEPS.map((each) => make("option", { value: String(each), selected: each === 0 }, priority(each))));
    this.told = make("p", { class: "quiet", role: "status" }, "Type a name, or the beginning of an ID.");
    this.found = make("ul", { class: "plain found" });
    this.target = make("select", {}, ...stores.filter((each) => !(each.local && where.machine)).map((each) =>
      make("option", { value: each.id }, each.name || each.where || each.id)));
    const form = make("form", {},
      make("label", {}, "Name or ID of a file in the library", this.find),
      make("div", { class: "line" }, make("label", {}, "Priority", this.urgency),
        stores.length ? make("label", {}, "Uploads go to", this.target) : ""),
      this.told, this.found, make("div", { class: "actions" }, make("button", { type: "button", onclick: () => close() }, "Close")));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.look(); });
    this.parts = [this.sending(), form];
  }

  // Files of the computer at which somebody sits: they become files of the library.
  sending() {
    const onward = make("select", {}, make("option", { value: "" }, "stay on this machine"),
      ...this.stores.filter((each) => !each.local).map((each) => make("option", { value: each.id }, each.name || each.where || each.id)));
    const chosen = make("input", { type: "file", multiple: true, onchange: () => {
      this.uploads.add([...chosen.files], { target: onward.value });
      this.close();
    } });
    return make("div", { class: "line" }, make("label", {}, "They then", onward), make("label", {}, "New files", chosen));
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), WAIT_MS);
  }

  async look() {
    clearTimeout(this.timer);
    const q = this.find.value.trim();
    if (!q) return;
    try {
      const { items } = await get("/files", { q }, { machine: false });
      if (q !== this.find.value.trim()) return;
      this.told.textContent = items.length ? `${items.length} found` : "No file is called so.";
      this.found.replaceChildren(...items.slice(0, 50).map((file) => this.line(file)));
    } catch (error) {
      this.told.textContent = error.message;
    }
  }

  line(file) {
    const name = file.name || file.id.slice(0, 12);
    const button = (text, action) => make("button", { type: "button", ariaLabel: `${text} ${name}`, onclick: () => this.ask(file, action) }, text);
    const elsewhere = Boolean(where.machine);
    return make("li", {},
      make("span", {}, make("strong", {}, name), ` ${size(file.bytes)}${file.here ? ", is here" : ""}`),
      make("span", { class: "actions" },
        file.here && !elsewhere ? "" : button("Download", "download"),
        this.stores.length && (file.here || elsewhere) ? button("Upload", "upload") : ""));
  }

  async ask(file, action) {
    const body = { action, file_ids: [file.id], priority: Number(this.urgency.value), requested_by: "page" };
    if (action === "upload") body.store_id = this.target.value;
    const name = file.name || file.id.slice(0, 12);
    if (await doing(() => post("/transfers", body), `${action === "download" ? "Download" : "Upload"} of “${name}” is asked for.`)) this.close();
  }
}
