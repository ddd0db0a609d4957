// Numbers and words as people read them.

export function size(bytes) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (bytes < 1024) return unit === "B" ? `${bytes} B` : `${bytes.toFixed(1)} ${unit}`;
    bytes /= 1024;
  }
  return `${bytes.toFixed(1)} TiB`;
}

export function rate(bps) {
  for (const unit of ["B/s", "kB/s", "MB/s"]) {
    if (bps < 1000) return unit === "B/s" ? `${Math.round(bps)} B/s` : `${bps.toFixed(1)} ${unit}`;
    bps /= 1000;
  }
  return `${bps.toFixed(1)} GB/s`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)}`;
  if (whole < 172800) return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return `${Math.floor(whole / 86400)} days`;
}

export function moment(unixSeconds) {
  return unixSeconds ? new Date(unixSeconds * 1000).toLocaleString() : "never";
}

export function percent(done, total) {
  return total ? Math.min(100, Math.floor((100 * done) / total)) : 0;
}

const PRIORITIES = { "-10": "low", 0: "normal", 10: "high", 100: "now" };

export const priority = (number) => PRIORITIES[number] ?? String(number);

export const STEPS = [-10, 0, 10, 100];

// 2 MB/s, 500 kB/s, 1.5 MB: what somebody types as a rate; null: no limit.
export function parseRate(text) {
  const match = /^\s*([\d.]+)\s*([kmg]?)i?b?(\/s)?\s*$/i.exec(text);
  if (!text.trim()) return null;
  if (!match) throw new Error(`“${text}” is not a rate like 2 MB/s`);
  return Math.round(Number(match[1]) * 1000 ** ["", "k", "m", "g"].indexOf(match[2].toLowerCase()));
}

export const called = (thing) => thing.name || (thing.file_id ?? thing.id ?? "").slice(0, 12);

// An element with properties and children; text is set as text, so nothing that a document says is ever markup.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}
