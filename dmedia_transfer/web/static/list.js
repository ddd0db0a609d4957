// The list: of ten thousand rows only those that are seen are in the document.

import { Row } from "./row.js";

const MORE = 6; // rows above and below what is seen
const phone = matchMedia("(max-width: 46rem)");

export class List {
  // `find(id)`: the transfer; `open(id)`: more is wanted of it; `key(event, transfer)`: a key on its row.
  constructor({ box, rows, find, open, key }) {
    Object.assign(this, { box, rows, find, open, key });
    this.ids = [];
    this.current = null; // the row that Tab leads to
    this.selected = null; // the row whose details are shown
    this.there = new Map();
    this.waiting = false;
    box.addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.soon()).observe(box);
    phone.addEventListener("change", () => this.soon());
    rows.addEventListener("keydown", (event) => this.onKey(event));
    rows.addEventListener("focusin", (event) => this.stand(event.target.closest("li").dataset.id));
    rows.addEventListener("click", (event) => {
      const row = event.target.closest("li");
      if (row && !event.target.closest("button, .grip")) open(row.dataset.id);
    });
  }

  get height() {
    return phone.matches ? 88 : 64;
  }

  set(ids) {
    this.ids = ids;
    this.soon();
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  select(id) {
    this.selected = id;
    this.soon();
  }

  stand(id) {
    if (this.current === id) return;
    this.there.get(this.current)?.stops(false);
    this.current = id;
    this.there.get(id)?.stops(true);
  }

  draw() {
    const { height, ids } = this;
    this.rows.style.height = `${ids.length * height}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / height) - MORE);
    const last = Math.min(ids.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / height) + MORE);
    const wanted = new Map();
    for (let index = first; index < last; index++) if (this.find(ids[index])) wanted.set(ids[index], index);
    const active = document.activeElement;
    const focused = this.rows.contains(active) ? active.closest("li").dataset.id : null;
    // A row that has the focus stays, wherever one scrolls, or the focus would be nowhere.
    const place = focused && !wanted.has(focused) ? ids.indexOf(focused) : -1;
    if (place >= 0 && this.find(focused)) wanted.set(focused, place);
    const at = focused === null ? -1 : Number(this.there.get(focused)?.element.getAttribute("aria-posinset") ?? 0) - 1;
    for (const [id, row] of this.there) {
      if (wanted.has(id)) continue;
      row.element.remove();
      this.there.delete(id);
    }
    if (!wanted.has(this.current)) this.current = ids[first] ?? null;
    let cursor = this.rows.firstElementChild;
    for (const [id, index] of [...wanted].sort((one, other) => one[1] - other[1])) {
      let row = this.there.get(id);
      if (!row) this.there.set(id, (row = new Row(this.find)));
      row.show(this.find(id));
      row.place(index, ids.length, index * height);
      row.stops(id === this.current);
      if (id === this.selected) row.element.setAttribute("aria-current", "true");
      else row.element.removeAttribute("aria-current");
      if (row.element === cursor) cursor = cursor.nextElementSibling;
      else this.rows.insertBefore(row.element, cursor);
    }
    if (focused === null || document.activeElement === active) return;
    // The row was moved, or has gone: the focus goes with it, or to the one that is in its place now.
    if (active.isConnected) active.focus({ preventScroll: true });
    else if (ids.length) this.go(Math.min(at, ids.length - 1));
    else this.box.focus();
  }

  // Take the focus to a row, wherever it is.
  go(index) {
    const id = this.ids[index];
    if (id === undefined) return;
    const { height, box } = this;
    if (index * height < box.scrollTop) box.scrollTop = index * height;
    else if ((index + 1) * height > box.scrollTop + box.clientHeight) box.scrollTop = (index + 1) * height - box.clientHeight;
    this.stand(id);
    this.draw();
    this.there.get(id)?.element.focus({ preventScroll: true });
  }

  onKey(event) {
    const row = event.target.closest("li");
    const id = row?.dataset.id;
    const one = id && this.find(id);
    if (!one) return;
    const index = this.ids.indexOf(id);
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const moves = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: this.ids.length - 1 };
    if (event.key in moves && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.go(Math.max(0, Math.min(moves[event.key], this.ids.length - 1)));
    } else if (event.target.closest("button") && (event.key === " " || event.key === "Enter")) {
      return; // the button's own
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.open(id);
    } else if (this.key(event, one)) {
      event.preventDefault();
    }
  }
}
