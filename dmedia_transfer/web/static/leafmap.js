// The map of a file's leaves: there, in flight, missing, bad.

import { make } from "./format.js";

const MOST_CELLS = 480; // more leaves than that share cells
const WORST_FIRST = [["!", "bad", "bad"], [">", "flight", "in flight"], [".", "", "missing"], ["#", "there", "there"]];

export function showMap(box, map) {
  box.hidden = !map.count;
  if (!map.count) return;
  const each = Math.ceil(map.count / MOST_CELLS);
  const cells = [];
  for (let start = 0; start < map.count; start += each) {
    const some = map.states.slice(start, start + each);
    cells.push(make("i", { class: WORST_FIRST.find(([sign]) => some.includes(sign))?.[1] ?? "" }));
  }
  const counts = { there: map.there, "in flight": map.in_flight, missing: map.count - map.there - map.in_flight - map.wrong, bad: map.wrong };
  const legend = WORST_FIRST.toReversed().map(([, name, word]) =>
    make("span", {}, make("i", { class: name }), `${counts[word]} ${word}`));
  box.replaceChildren(make("h4", {}, each > 1 ? `Leaves of 8 MiB, ${each} in a square` : "Leaves of 8 MiB"),
    make("div", { class: "map", ariaHidden: "true" }, ...cells), make("p", { class: "legend" }, ...legend));
}
