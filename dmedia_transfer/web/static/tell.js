// Telling: what became of an action, and a question before one that cannot be taken back.

import { make } from "./format.js";

const SHOWN_MS = 6000;
const MOST = 4;

export function toast(text, bad = false) {
  const box = document.getElementById("toasts");
  const one = make("p", { class: bad ? "toast bad" : "toast" }, text);
  box.append(one);
  while (box.children.length > MOST) box.firstElementChild.remove();
  setTimeout(() => one.remove(), bad ? SHOWN_MS * 2 : SHOWN_MS);
}

// Do something, and tell how it went. `said` is what to tell, or makes it of the answer.
export async function doing(work, said) {
  try {
    const answer = await work();
    toast(answer?.changed === false ? "There was nothing to change." : typeof said === "function" ? said(answer) : said);
    dispatchEvent(new Event("acted"));
    return answer ?? true;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

// A dialog made of `children`; resolves to what `close` was called with, or null.
export function dialog(head, fill) {
  const box = document.getElementById("dialog");
  return new Promise((resolve) => {
    let result = null;
    const close = (value = null) => { result = value; box.close(); };
    box.replaceChildren(make("h2", { id: "dialog-head" }, head), ...fill(close));
    box.addEventListener("close", () => { box.replaceChildren(); resolve(result); }, { once: true });
    box.showModal();
  });
}

export const confirmed = (head, text, yes, no) =>
  dialog(head, (close) => [
    make("p", {}, text),
    make("div", { class: "actions" },
      make("button", { type: "button", onclick: () => close(false), autofocus: true }, no),
      make("button", { type: "button", class: "bad", onclick: () => close(true) }, yes)),
  ]);
