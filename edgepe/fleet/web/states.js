// One scale of colours for the states of an update and of a roll-out. Colour never speaks alone: the state's name
// stands beside it, and each tone has its own shape.

import { el, setAttribute, setText } from "./dom.js";

const TONES = {
  IDLE: "idle", PENDING: "idle", WAITING: "idle",
  ACCEPTED: "busy", PREFLIGHT: "busy", DOWNLOADING: "busy", VERIFYING: "busy", STAGED: "busy", PROBING: "busy",
  SWITCHING: "busy", SOAKING: "busy", RUNNING: "busy", ASKED: "busy", REVERTING: "warn",
  COMMITTED: "good", DONE: "good", COMPLETED: "good",
  REJECTED: "bad", FAILED: "bad", ROLLED_BACK: "bad", TIMED_OUT: "bad", ABORTED: "bad",
  UNCONFIRMED: "bad", CANCELLED: "warn", PAUSED: "warn", REVERTED: "warn",
};
const SHAPES = { good: "✓", busy: "◐", bad: "▲", warn: "■", idle: "○" };
const ORDER = ["bad", "warn", "busy", "good", "idle"];

/** "DOWNLOADING 40 %" has the tone of DOWNLOADING. */
export const toneOf = (state) => TONES[state.split(" ")[0].toUpperCase()] ?? "idle";

/** Order for sorting: what needs a person first. */
export const rankOf = (state) => ORDER.indexOf(toneOf(state));

/** Make a state's badge; `updateBadge` changes it in place. */
export function badge(state, detail = "") {
  const node = el("span", { class: "badge" }, el("i", { "aria-hidden": "true" }), el("span", {}));
  updateBadge(node, state, detail);
  return node;
}

export function updateBadge(node, state, detail = "") {
  const tone = toneOf(state);
  setAttribute(node, "data-tone", tone);
  setAttribute(node, "title", detail === "" ? null : detail);
  setText(node.firstChild, SHAPES[tone]);
  setText(node.lastChild, state === "" ? "no update yet" : state.replaceAll("_", " "));
}
