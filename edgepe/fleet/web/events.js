// The latest events, newest first: who, what, why.

import { deviceHref } from "./table.js";
import { el, empty, timeNode } from "./dom.js";
import { clock } from "./format.js";
import { toneOf } from "./states.js";

const MOST = 60;

/** Build the list; returns `update(events)`. Redrawn only when the events differ. */
export function makeEvents(host, hint) {
  let drawn = "";
  return (events) => {
    const next = JSON.stringify(events.slice(0, MOST));
    if (next === drawn) return;
    drawn = next;
    host.replaceChildren(events.length === 0 ? empty(hint) : el("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" }, ...events.slice(0, MOST).map(line)));
  };
}

function line(event) {
  return el("li", { "data-tone": toneOf(event.code) },
    el("span", { class: "when" }, timeNode(event.time_ms, clock(event.time_ms))),
    el("span", { class: "who" }, event.device === "" ? "fleet" : el("a", { href: deviceHref(event.device) }, event.device)),
    el("span", { class: "what" }, [event.kind, event.code].filter((part) => part !== "").join(" ").replaceAll("_", " ")),
    el("span", { class: "why" }, event.detail));
}
