// Steering: what can be done to a transfer, by buttons and by keys.

import { post } from "./api.js";
import { STEPS, called, priority } from "./format.js";
import { confirmed, doing, toast } from "./tell.js";

const path = (transfer, verb) => `/transfers/${encodeURIComponent(transfer.id)}/${verb}`;
const quoted = (transfer) => `“${called(transfer)}”`;

export const RESTING = new Set(["paused", "pausing"]);

export const pause = (one) => doing(() => post(path(one, "pause")), `Paused ${quoted(one)}.`);
export const resume = (one) => doing(() => post(path(one, "resume")), `${quoted(one)} goes on.`);
export const retry = (one) => doing(() => post(path(one, "retry")), `${quoted(one)} is tried again.`);

export function toggle(one) {
  if (one.status === "failed") return retry(one);
  return RESTING.has(one.status) ? resume(one) : pause(one);
}

export async function cancel(one) {
  const sure = await confirmed(
    `Give up ${quoted(one)}?`, "What has arrived of it is removed.", "Give it up", "Keep it");
  if (sure) await doing(() => post(path(one, "cancel")), `Cancelled ${quoted(one)}.`);
}

export function prioritize(one, number) {
  return doing(() => post(path(one, "priority"), { priority: number }), `${quoted(one)} has priority ${priority(number)}.`);
}

export function step(one, up) {
  const next = up ? STEPS.find((each) => each > one.priority) : STEPS.findLast((each) => each < one.priority);
  if (next === undefined) return toast(up ? "It is at the highest priority." : "It is at the lowest priority.");
  return prioritize(one, next);
}

export const allowCost = (one, metered) =>
  doing(() => post(path(one, "metered"), { metered }),
    metered ? `${quoted(one)} may go on where a connection costs.` : `${quoted(one)} waits where a connection costs.`);

// The keys of a row; says whether the key meant something.
export function onKey(event, one) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const keys = {
    " ": () => toggle(one), r: () => retry(one), R: () => retry(one), Delete: () => cancel(one),
    "+": () => step(one, true), "=": () => step(one, true), "-": () => step(one, false),
  };
  const action = keys[event.key];
  if (action) action();
  return Boolean(action);
}
