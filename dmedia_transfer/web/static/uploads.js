// Uploads: new files go to the daemon by tus 1.0, which goes on where it was after whatever comes between.

import { BASE, Refused } from "./api.js";
import { duration, make, percent, rate, size } from "./format.js";
import { confirmed, toast } from "./tell.js";

const CHUNK_BYTES = 32 * 1024 * 1024;
const MOST_AT_ONCE = 2;
const PATIENT = new Set([0, 408, 409, 423, 429, 460, 502, 503, 504]); // it may go on later
const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 10000;

const inBase64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

// One request; resolves to the XMLHttpRequest. fetch cannot tell how much of a body has been sent.
function request(method, url, headers, { body = null, sent = () => undefined, keep = () => undefined } = {}) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    keep(xhr);
    xhr.open(method, url);
    for (const [name, value] of Object.entries({ "Tus-Resumable": "1.0.0", ...headers })) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = (event) => sent(event.loaded);
    xhr.onabort = xhr.onerror = () => reject(new Refused({ detail: "the daemon does not answer" }));
    xhr.onload = () => {
      if (xhr.status < 400) { resolve(xhr); return; }
      let problem = { status: xhr.status, title: xhr.statusText };
      try { problem = { ...problem, ...JSON.parse(xhr.responseText) }; } catch { /* HEAD has no words */ }
      reject(new Refused(problem));
    };
    xhr.send(body);
  });
}

class Upload {
  constructor(file, { store, target }) {
    Object.assign(this, { file, store, target });
    this.url = null;
    this.offset = 0;
    this.rate = 0;
    this.paused = this.ended = false;
    const put = (name, ...more) => (this[name] = make(...more));
    this.element = make("li", { class: "card sending" },
      make("span", { class: "name" }, `↑ ${file.name}`), put("bar", "progress", { max: 100, ariaLabel: `Progress of sending ${file.name}` }),
      put("told", "span", { class: "told quiet" }),
      make("span", { class: "do" },
        put("go", "button", { type: "button", onclick: () => this.toggle() }),
        make("button", { type: "button", ariaLabel: `Cancel sending ${file.name}`, title: "Cancel", onclick: () => this.cancel() }, "✕")));
    this.show("waits for its turn");
  }

  show(words) {
    if (words) this.words = words;
    this.bar.value = percent(this.offset, this.file.size);
    const left = this.rate > 0 ? `, ${rate(this.rate)}, ${duration((this.file.size - this.offset) / this.rate)} left` : "";
    this.told.textContent = `${this.words}: ${size(this.offset)} of ${size(this.file.size)}${left}`;
    const [sign, verb] = this.paused ? ["▶", "Resume"] : ["❚❚", "Pause"];
    this.go.textContent = sign;
    this.go.title = verb;
    this.go.ariaLabel = `${verb} sending ${this.file.name}`;
  }

  toggle() {
    this.paused = !this.paused;
    this.rate = 0;
    if (this.paused) this.xhr?.abort();
    this.wake?.();
    this.show(this.paused ? "paused" : "goes on");
    toast(this.paused ? `Paused sending “${this.file.name}”.` : `Sending “${this.file.name}” goes on.`);
  }

  async cancel() {
    if (!(await confirmed(`Stop sending “${this.file.name}”?`, "What has arrived of it is removed.", "Stop it", "Go on"))) return;
    if (this.ended) return;
    this.end();
    this.xhr?.abort();
    this.wake?.();
    try {
      if (this.url) await request("DELETE", this.url, {});
      toast(`“${this.file.name}” is not sent.`);
    } catch (error) { toast(error.message, true); }
  }

  end() {
    this.ended = true;
    this.element.remove();
  }

  // Until `toggle`, `cancel`, or the time is over.
  wait(ms) {
    return new Promise((resolve) => {
      const timer = ms === undefined ? null : setTimeout(resolve, ms);
      this.wake = () => { clearTimeout(timer); resolve(); };
    });
  }

  async run() {
    for (let wait_ms = FIRST_WAIT_MS; !this.ended; ) {
      if (this.paused) { await this.wait(); continue; }
      try {
        const before = this.offset;
        if (await this.step()) break;
        if (this.offset > before) wait_ms = FIRST_WAIT_MS;
      } catch (error) {
        if (this.ended || this.paused) continue;
        if (!PATIENT.has(error.status)) {
          toast(`“${this.file.name}” was not sent: ${error.message}`, true);
          this.end();
          break;
        }
        this.lost = true;
        this.rate = 0;
        this.show(`${error.message}, trying again`);
        await this.wait(wait_ms);
        wait_ms = Math.min(wait_ms * 2, LONGEST_WAIT_MS);
      }
    }
  }

  // One request of it; says whether all is there.
  async step() {
    const keep = (xhr) => { this.xhr = xhr; };
    if (!this.url) {
      const facts = { filename: this.file.name, filetype: this.file.type, store_id: this.store, upload_to: this.target };
      const metadata = Object.entries(facts).filter(([, value]) => value).map(([name, value]) => `${name} ${inBase64(value)}`);
      const made = await request("POST", `${BASE}/uploads`, { "Upload-Length": this.file.size, "Upload-Metadata": metadata.join(",") }, { keep });
      this.url = made.getResponseHeader("Location");
    } else if (this.lost) {
      const known = await request("HEAD", this.url, {}, { keep });
      this.offset = Number(known.getResponseHeader("Upload-Offset"));
      this.lost = false;
    } else {
      const start = this.offset, begun = performance.now();
      const sent = (bytes) => {
        this.offset = start + bytes;
        this.rate = (1000 * bytes) / Math.max(1, performance.now() - begun);
        this.show("sending");
      };
      this.lost = true; // until the answer says how far it is
      const answer = await request("PATCH", this.url,
        { "Upload-Offset": start, "Content-Type": "application/offset+octet-stream" },
        { body: this.file.slice(start, start + CHUNK_BYTES), sent, keep });
      this.offset = Number(answer.getResponseHeader("Upload-Offset"));
      this.lost = false;
    }
    this.show("sending");
    if (this.offset < this.file.size) return false;
    this.end();
    toast(`“${this.file.name}” is in the library.`);
    return true;
  }
}

export class Uploads {
  constructor(list) {
    this.list = list;
    this.waiting = [];
    this.running = 0;
    addEventListener("beforeunload", (event) => { if (this.running) event.preventDefault(); });
  }

  add(files, { store = "", target = "" } = {}) {
    for (const file of files) {
      const upload = new Upload(file, { store, target });
      this.list.append(upload.element);
      this.waiting.push(upload);
    }
    this.next();
  }

  next() {
    while (this.running < MOST_AT_ONCE && this.waiting.length) {
      const upload = this.waiting.shift();
      if (upload.ended) continue;
      this.running += 1;
      upload.run().finally(() => { this.running -= 1; this.next(); });
    }
  }
}

// Files may be dropped anywhere on the page.
export function takeDrops(uploads, curtain) {
  let depth = 0;
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (files(event)) { depth += 1; curtain.hidden = false; } });
  addEventListener("dragleave", (event) => { if (files(event) && --depth <= 0) { depth = 0; curtain.hidden = true; } });
  addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    curtain.hidden = true;
    uploads.add(event.dataTransfer.files);
  });
}
