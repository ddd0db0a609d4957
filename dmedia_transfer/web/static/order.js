// The order of the queue: a transfer is moved by drag and drop, or by Alt and an arrow.

import { post } from "./api.js";
import { ended } from "./book.js";
import { called } from "./format.js";
import { doing, toast } from "./tell.js";

function put(one, next) {
  const before = next && !ended(next) ? next : null;
  return doing(() => post("/order", { ids: [one.id], before: before?.id ?? null }),
    before ? `“${called(one)}” comes before “${called(before)}” now.` : `“${called(one)}” comes last now.`);
}

// Says whether the key meant something. `book.shown`: the rows, in order.
export function onOrderKey(event, one, book) {
  if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return false;
  const index = book.shown.indexOf(one.id), up = event.key === "ArrowUp";
  if (up ? index === 0 : index === book.shown.length - 1) toast(up ? "It is the first." : "It is the last.");
  else put(one, book.get(book.shown[up ? index - 1 : index + 2]));
  return true;
}

// Rows are dragged onto the one that they shall come before, or below all of them.
export function dragRows(box, book) {
  let dragged = null, over = null;
  const mark = (row) => {
    over?.classList.remove("over");
    over = row;
    over?.classList.add("over");
  };
  box.addEventListener("dragstart", (event) => {
    dragged = event.target.closest("li.row")?.dataset.id ?? null;
    if (dragged) event.dataTransfer.setData("text/plain", dragged);
  });
  box.addEventListener("dragover", (event) => {
    if (!dragged) return;
    event.preventDefault();
    mark(event.target.closest("li.row"));
  });
  box.addEventListener("drop", (event) => {
    if (!dragged) return;
    event.preventDefault();
    const one = book.get(dragged), target = event.target.closest("li.row")?.dataset.id;
    if (one && target !== one.id) put(one, target ? book.get(target) : null);
  });
  box.addEventListener("dragend", () => { dragged = null; mark(null); });
}
