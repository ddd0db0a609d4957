// The graph: how fast it went in the last ten minutes.

import { get } from "./api.js";
import { rate } from "./format.js";

const SPAN_S = 600;
const ABOVE = 28; // the room for the words
const WIDTH = 600, HEIGHT = 80;
const GAP_S = 5; // longer than that without a sample: nothing moved
const TOLD_MS = 10000;
const NS = "http://www.w3.org/2000/svg";

export class Graph {
  constructor(svg, text, peak) {
    Object.assign(this, { svg, text, peak });
    this.samples = [];
    this.told = 0;
    this.paths = ["download", "upload"].map((way) => {
      const path = document.createElementNS(NS, "path");
      path.setAttribute("class", way === "download" ? "down" : "up");
      svg.append(path);
      return [way, path];
    });
    setInterval(() => this.draw(), 1000);
  }

  async load() {
    this.samples = (await get("/rates", {}, { machine: false })).samples;
    this.told = 0;
    this.draw();
  }

  // A progress event: one sample a second is enough.
  add(download, upload) {
    const time = Date.now() / 1000;
    const last = this.samples.at(-1);
    if (last && time - last.time < 1) Object.assign(last, { download, upload });
    else this.samples.push({ time, download, upload });
  }

  draw() {
    const now = Date.now() / 1000;
    this.samples = this.samples.filter((each) => each.time > now - SPAN_S);
    const most = Math.max(1, ...this.samples.flatMap((each) => [each.download, each.upload]));
    for (const [way, path] of this.paths) path.setAttribute("d", this.line(way, now, most));
    this.peak.textContent = most > 1 ? `10 minutes, up to ${rate(most)}` : "10 minutes";
    if (Date.now() - this.told < TOLD_MS) return;
    this.told = Date.now();
    const mean = (way) => this.samples.reduce((sum, each) => sum + each[way], 0) / this.samples.length;
    this.text.textContent = most > 1
      ? `The last ten minutes: down ${rate(mean("download"))}, up ${rate(mean("upload"))} on average while something moved; at most ${rate(most)}.`
      : "Nothing has moved in the last ten minutes.";
  }

  line(way, now, most) {
    const x = (time) => (WIDTH * (1 - (now - time) / SPAN_S)).toFixed(1);
    const y = (value) => (HEIGHT - 3 - (value / most) * (HEIGHT - ABOVE)).toFixed(1);
    let d = `M0 ${y(0)}`, last = now - SPAN_S;
    for (const each of this.samples) {
      if (each.time - last > GAP_S) d += `L${x(last)} ${y(0)}L${x(each.time)} ${y(0)}`;
      d += `L${x(each.time)} ${y(each[way])}`;
      last = each.time;
    }
    if (now - last > GAP_S) d += `L${x(last + 1)} ${y(0)}`;
    return `${d}${now - last > GAP_S ? `L${WIDTH} ${y(0)}` : ""}`;
  }
}
