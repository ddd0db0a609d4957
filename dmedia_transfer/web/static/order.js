// The order of the queue: a transfer is moved by dragging its row, by its handle on a touch screen, or by Alt and an arrow.

import { post } from "./api.js";
import { ended } from "./book.js";
import { called } from "./format.js";
import { doing, toast } from "./tell.js";

const EDGE = 40; // pixels from the edge of the list, where it scrolls while something is dragged
const SCROLL = 12; // pixels in each frame

function put(one, next) {
  const before = next && !ended(next) ? next : null;
  return doing(() => post("/order", { ids: [one.id], before: before?.id ?? null }),
    before ? `“${called(one)}” comes before “${called(before)}” now.` : `“${called(one)}” comes last now.`);
}

// `book.shown`: the rows, in order.
export function moveByOne(one, up, book) {
  const index = book.shown.indexOf(one.id);
  if (up ? index === 0 : index === book.shown.length - 1) return toast(up ? "It is the first." : "It is the last.");
  return put(one, book.get(book.shown[up ? index - 1 : index + 2]));
}

// Says whether the key meant something.
export function onOrderKey(event, one, book) {
  if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return false;
  moveByOne(one, event.key === "ArrowUp", book);
  return true;
}

// A row comes before the one on whose upper half it is let go, or after the one on whose lower half; below all: last.
export function dragRows(box, book) {
  let dragged = null, finger = null;
  const mark = (place) => {
    box.querySelectorAll(".over, .under").forEach((row) => row.classList.remove("over", "under"));
    place?.row.classList.add(place.after ? "under" : "over");
  };
  const placeAt = (x, y) => {
    const row = document.elementFromPoint(x, y)?.closest("li.row");
    if (!row) return null;
    const { top, height } = row.getBoundingClientRect();
    return { row, after: y > top + height / 2 };
  };
  const drop = (x, y) => {
    const one = book.get(dragged), place = placeAt(x, y);
    if (!one) return;
    const index = place ? book.shown.indexOf(place.row.dataset.id) + (place.after ? 1 : 0) : book.shown.length;
    const own = book.shown.indexOf(one.id);
    if (index !== own && index !== own + 1) put(one, book.get(book.shown[index]));
  };
  const end = () => { dragged = finger = null; mark(null); };

  box.addEventListener("dragstart", (event) => {
    if (finger) return event.preventDefault();
    dragged = event.target.closest("li.row")?.dataset.id ?? null;
    if (dragged) event.dataTransfer.setData("text/plain", dragged);
    return undefined;
  });
  box.addEventListener("dragover", (event) => {
    if (!dragged) return;
    event.preventDefault();
    mark(placeAt(event.clientX, event.clientY));
  });
  box.addEventListener("drop", (event) => {
    if (!dragged) return;
    event.preventDefault();
    drop(event.clientX, event.clientY);
  });
  box.addEventListener("dragend", end);

  // Touch screens know no drag and drop: there the handle of a row follows the finger, and the list scrolls at its edges.
  const scroll = () => {
    if (!finger) return;
    const { top, bottom } = box.getBoundingClientRect();
    const by = finger.y < top + EDGE ? -SCROLL : finger.y > bottom - EDGE ? SCROLL : 0;
    if (by) { box.scrollTop += by; mark(placeAt(finger.x, finger.y)); }
    requestAnimationFrame(scroll);
  };
  box.addEventListener("pointerdown", (event) => {
    const row = event.target.closest(".grip")?.closest("li.row");
    if (!row || event.button) return;
    event.preventDefault();
    dragged = row.dataset.id;
    finger = { x: event.clientX, y: event.clientY, id: event.pointerId };
    box.setPointerCapture(event.pointerId); // the row itself may scroll away
    requestAnimationFrame(scroll);
  });
  box.addEventListener("pointermove", (event) => {
    if (event.pointerId !== finger?.id) return;
    Object.assign(finger, { x: event.clientX, y: event.clientY });
    mark(placeAt(finger.x, finger.y));
  });
  box.addEventListener("pointerup", (event) => {
    if (event.pointerId !== finger?.id) return;
    const { left, right } = box.getBoundingClientRect();
    if (event.clientX >= left && event.clientX <= right) drop(event.clientX, event.clientY);
    end();
  });
  box.addEventListener("pointercancel", (event) => { if (event.pointerId === finger?.id) end(); });
  addEventListener("keydown", (event) => { if (event.key === "Escape" && finger) end(); });
}
