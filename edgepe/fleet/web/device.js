// One device: its live row as tiles, latency and memory over time, what its birth said, its events.

import { badge, updateBadge } from "./states.js";
import { el, empty, setAttribute, setText } from "./dom.js";
import { ago, bytes, celsius, count, duration } from "./format.js";
import { makeChart } from "./charts.js";
import { makeEvents } from "./events.js";

const TILES = [
  ["p50", (row) => duration(row.p50_us)], ["p95", (row) => duration(row.p95_us)], ["p99", (row) => duration(row.p99_us)],
  ["Worker memory", (row) => bytes(row.rss_bytes)], ["Inferences", (row) => count(row.inferences)], ["Errors", (row) => count(row.errors)],
  ["Temperature", (row) => celsius(row.temperature_mc)],
];

/** Build the view of `device` in `host`; returns `{showRow, showDetail, redraw}`. */
export function makeDevice(host, device, charts) {
  const link = el("span", { class: "online" }, el("i", { "aria-hidden": "true" }), el("span", {}));
  const state = badge("");
  const serves = el("p", { class: "lead" });
  const seen = el("span", { class: "note" });
  const tiles = TILES.map(([title, format]) => ({ format, value: el("p", { class: "figure" }), title }));
  const latency = el("div", {}), memory = el("div", {}), facts = el("div", {}), events = el("div", {});
  const panel = (title, body) => el("section", { class: "panel" }, el("div", { class: "head" }, el("h2", {}, title)), body);
  const body = el("div", { class: "device-body" },
    el("section", { class: "tiles", "aria-label": "Headline figures" },
      ...tiles.map((one) => el("div", { class: "tile" }, el("h2", {}, one.title), one.value))),
    el("section", { class: "charts", "aria-label": "Over time" }, panel("Latency", latency), panel("Memory", memory)),
    el("div", { class: "pair" }, panel("About this device", facts), panel("Events", events)),
  );
  host.replaceChildren(
    el("p", { class: "crumb" }, el("a", { href: "#/" }, "← All devices")),
    el("div", { class: "device-head" }, el("h1", { tabindex: "-1" }, device), link, state, seen),
    serves,
    body,
  );
  const drawn = { latency: makeChart(latency, charts.latency), memory: makeChart(memory, charts.memory) };
  const showEvents = makeEvents(events, "This device has sent no event yet.");

  const showRow = (row, now) => {
    body.hidden = link.hidden = state.hidden = row === null;
    if (row === null) {
      setText(serves, "The fleet knows no device of this name.");
      return;
    }
    setAttribute(link, "data-online", row.online ? "yes" : "no");
    setText(link.lastChild, row.online ? "online" : "offline");
    updateBadge(state, row.state, row.code);
    setText(seen, `last seen ${ago(row.last_seen_ms, now)}`);
    const where = [row.target, row.site === "" ? "" : `site ${row.site}`].filter((part) => part !== "").join(", ");
    setText(serves, row.model === "" ? `No model is active. ${where}` : `Serves ${row.model} ${row.version} on ${where || "an unnamed target"}${row.code === "" ? "" : `. Last code: ${row.code}`}`);
    for (const one of tiles) setText(one.value, one.format(row));
  };
  return {
    showRow,
    showDetail: (detail) => {
      facts.replaceChildren(...[factList(detail.facts), modelTable(detail.models)].filter((node) => node !== null));
      drawn.latency.update(detail.groups);
      drawn.memory.update(detail.groups);
      showEvents(detail.events);
    },
    redraw: () => Object.values(drawn).forEach((chart) => chart.redraw()),
  };
}

/** What the birth said: bytes with their unit, lists as words. */
function factList(facts) {
  const rows = facts.filter(([, value]) => value !== "" && value !== null && String(value) !== "");
  if (rows.length === 0) return empty("The device has not introduced itself yet.");
  return el("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [el("dt", {}, nameOf(name)), el("dd", {}, factText(name, value))]));
}

const nameOf = (name) => (name[0] ?? "").toUpperCase() + name.slice(1).replace(/_bytes$/, "").replaceAll("_", " ");

function factText(name, value) {
  if (name.endsWith("_bytes")) return bytes(value);
  if (Array.isArray(value)) return value.map(String).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A device may serve several models; the tiles show the first. */
function modelTable(models) {
  if (models.length < 2) return null;
  const head = ["Model", "Version", "State", "p50", "p99", "Memory"];
  return el("table", { class: "models" }, el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...models.map((row) => el("tr", {}, ...[
      row.model, row.version, badge(row.state, row.code), duration(row.p50_us), duration(row.p99_us), bytes(row.rss_bytes),
    ].map((item) => el("td", {}, item))))));
}
