// The fleet's page. What a maintainer must know:
//
// - No build step, no framework, no external host. index.html loads three scripts of its own and uPlot 1.6.32, which
//   is vendored as published (vendor/uplot, with its licence) and hangs itself on `globalThis.uPlot`. A newer one is
//   the three files of its npm package, nothing else. All files together stay under 150 KB; a test counts.
// - The policy is `default-src 'self'`: no inline script, no style attribute in markup. Styles set from scripts go
//   through `node.style`, which the policy allows and uPlot does too.
// - Everything that comes from a device is untrusted. Only dom.js makes elements and it makes text nodes.
// - api.js alone knows the API's shapes. live.js follows /api/stream; each "fleet" update replaces `fleet` whole.
//   The charts' lines and an open device's details are fetched after updates, at most every DETAILS_EVERY_MS.
// - The address says what is shown, so it can be shared: #/?q=…&target=…&sort=…&dir=desc, #/device/NAME.
// - Percentiles are the server's, from merged histograms. Nothing here averages a percentile.

import { loadDevice, loadFleet, loadSeries, toFleet } from "./api.js";
import { makeChart } from "./charts.js";
import { makeDevice } from "./device.js";
import { el, setText } from "./dom.js";
import { makeEvents } from "./events.js";
import { bytes, duration } from "./format.js";
import { follow } from "./live.js";
import { current, makeRollouts } from "./rollouts.js";
import { SORT_KEYS, makeTable, sortsDown } from "./table.js";
import { RateMeter, makeTiles } from "./tiles.js";

const DETAILS_EVERY_MS = 4000;
const CLOCK_EVERY_MS = 5000;
const SPANS = [[15, "15 min"], [60, "1 h"], [360, "6 h"], [1440, "24 h"]];
const QUANTILES = ["p50", "p95", "p99"].map((name) => ({ key: `${name}_us`, label: name }));
const DECIMAL_STEPS = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power));
const BINARY_STEPS = Array.from({ length: 30 }, (_, power) => 1024 * 2 ** power);
const CHARTS = {
  latency: { title: "Latency", lines: QUANTILES, format: duration, steps: DECIMAL_STEPS, hint: "No latency has been reported in this time span." },
  memory: { title: "Memory", lines: [{ key: "rss_bytes", label: "largest worker" }], format: bytes, steps: BINARY_STEPS, hint: "No memory has been reported in this time span." },
};

const byId = (id) => document.getElementById(id);
const shared = { fleet: null, series: [], minutes: 15, seen: new Map(), perSecond: null, single: null };
const meter = new RateMeter();
const views = {
  tiles: makeTiles(byId("tiles")),
  table: makeTable(byId("devices"), { onSort: sortBy }),
  latency: makeChart(byId("latency"), CHARTS.latency),
  memory: makeChart(byId("memory"), CHARTS.memory),
  rollouts: makeRollouts(byId("rollouts")),
  events: makeEvents(byId("events"), "Nothing has happened yet: births, deaths, updates and refusals are listed here."),
};

// --- the address ----------------------------------------------------------------------------------------------------

const DEFAULT_VIEW = { q: "", target: "", sort: "device", descending: false };

function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const device = /^\/device\/([^/]+)$/.exec(path)?.[1];
  const asked = new URLSearchParams(query);
  return {
    device: device === undefined ? null : decoded(device),
    show: asked.get("show") ?? "",
    q: asked.get("q") ?? "",
    target: asked.get("target") ?? "",
    sort: asked.get("sort") ?? DEFAULT_VIEW.sort,
    descending: asked.get("dir") === "desc",
  };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray percent sign in a hand-written address
  }
}

function writeAddress(view) {
  const query = new URLSearchParams();
  for (const key of ["q", "target", "sort"]) if (view[key] !== DEFAULT_VIEW[key]) query.set(key, view[key]);
  if (view.descending) query.set("dir", "desc");
  history.replaceState(null, "", query.size === 0 ? "#/" : `#/?${query}`);
}

function changeView(change) {
  writeAddress({ ...readAddress(), ...change });
  drawDevices();
  drawSeries();
}

function sortBy(key) {
  const view = readAddress();
  changeView({ sort: key, descending: view.sort === key ? !view.descending : sortsDown(key) });
}

// --- drawing --------------------------------------------------------------------------------------------------------

function drawDevices() {
  if (shared.fleet === null) return;
  const view = readAddress(), { devices } = shared.fleet;
  const shown = views.table(devices, view, Date.now());
  setText(byId("device-count"), shown === devices.length ? String(shown) : `${shown} of ${devices.length}`);
  fillTargets(devices, view.target);
  for (const [id, value] of [["filter-text", view.q], ["filter-target", view.target], ["sort-select", view.sort]]) {
    if (byId(id).value !== value) byId(id).value = value;
  }
}

function fillTargets(devices, chosen) {
  const select = byId("filter-target");
  const targets = [...new Set([...devices.map((row) => row.target), chosen])].filter((target) => target !== "").sort();
  if (targets.join("\n") === select.dataset.targets) return;
  select.dataset.targets = targets.join("\n");
  select.replaceChildren(el("option", { value: "" }, "All targets"), ...targets.map((target) => el("option", { value: target }, target)));
}

const rowOf = (device) => shared.fleet.devices.find((row) => row.device === device) ?? null;

function drawFleet() {
  const { rollouts, events } = shared.fleet;
  if (shared.single !== null) {
    shared.single.view.showRow(rowOf(shared.single.device), Date.now());
    return;
  }
  views.tiles(shared.fleet, shared.perSecond, current(rollouts));
  views.rollouts(rollouts, Date.now());
  views.events(events);
  drawDevices();
}

/** The lines follow the choice of a target, as the table does. */
function drawSeries() {
  const { target } = readAddress();
  const groups = shared.series.filter((group) => target === "" || group.target === target);
  views.latency.update(groups);
  views.memory.update(groups);
}

// --- data -----------------------------------------------------------------------------------------------------------

function takeFleet(fleet) {
  shared.fleet = fleet;
  shared.perSecond = meter.add(fleet.devices, Date.now()) ?? shared.perSecond;
  announceChanges(fleet.devices);
  drawFleet();
  details();
}

/** Tell a screen reader what a sighted person sees change: at most one sentence for each update. */
function announceChanges(devices) {
  const told = [];
  for (const row of devices) {
    const now = `${row.online ? "online" : "offline"}, ${row.state === "" ? "no update yet" : row.state.replaceAll("_", " ")}`;
    const before = shared.seen.get(row.key);
    if (before !== undefined && before !== now) told.push(`${row.device}: ${now}`);
    shared.seen.set(row.key, now);
  }
  if (told.length > 0) setText(byId("announce"), told.length > 3 ? `${told.length} devices changed their state` : told.join(". "));
}

/** What no update carries: the open device's own answer, or the lines over time of the whole fleet. */
const details = throttled(DETAILS_EVERY_MS, async () => {
  const open = shared.single;
  if (open !== null && rowOf(open.device) === null) return;
  if (open === null) {
    shared.series = await loadSeries(shared.minutes);
    if (shared.single === null) drawSeries();
    return;
  }
  const detail = await loadDevice(open.device);
  if (shared.single === open) open.view.showDetail(detail);
});

/** Call `task` at most once in `every` ms; a call in between is kept for the end of the pause. `soon` skips it. */
function throttled(every, task) {
  let timer = null, began = -Infinity;
  const start = () => {
    timer = null;
    began = performance.now();
    task().then(() => showProblem(""), (error) => showProblem(error.message));
  };
  const call = () => {
    timer ??= setTimeout(start, Math.max(0, began + every - performance.now()));
  };
  call.soon = () => {
    clearTimeout(timer);
    start();
  };
  return call;
}

function showProblem(text) {
  byId("problem").hidden = text === "";
  setText(byId("problem"), text === "" ? "" : `The last figures may be old: ${text}`);
}

function showLink(link) {
  if (byId("link").dataset.link !== link) setText(byId("announce"), link === "live" ? "Live updates are on" : "Live updates are cut, reconnecting");
  byId("link").dataset.link = link;
  setText(byId("link-text"), link);
  if (link === "live" && shared.fleet !== null) details();
}

// --- what a person does ---------------------------------------------------------------------------------------------

function showAddress() {
  const view = readAddress();
  const single = view.device !== null;
  byId("overview").hidden = single;
  byId("device").hidden = !single;
  if ((shared.single?.device ?? null) !== view.device) {
    shared.single = single ? { device: view.device, view: makeDevice(byId("device"), view.device, CHARTS) } : null;
    if (!single) byId("device").replaceChildren();
    document.title = single ? `${view.device} · edgepe fleet` : "edgepe fleet";
    if (shared.fleet !== null) details.soon();
    if (single) {
      scrollTo(0, 0);
      byId("device").querySelector("h1").focus({ preventScroll: true });
    }
  }
  if (shared.fleet !== null) drawFleet();
  if (view.show === "rollouts") byId("rollouts-panel").focus();
}

function makeSpans() {
  const buttons = SPANS.map(([minutes, label]) => el("button", { type: "button", "aria-pressed": String(minutes === shared.minutes), onclick: (event) => {
    shared.minutes = minutes;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
    details.soon();
  } }, label));
  byId("span").replaceChildren(...buttons);
}

function makeTheme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    views.latency.redraw();
    views.memory.redraw();
    shared.single?.view.redraw();
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("edgepe-theme", root.dataset.theme);
    } catch {
      // Storage is refused: the choice lasts as long as the page.
    }
    show();
  });
  system.addEventListener("change", show);
  show();
}

makeSpans();
makeTheme();
byId("sort-select").replaceChildren(...SORT_KEYS.map(({ key, label }) => el("option", { value: key }, `Sort by ${label.toLowerCase()}`)));
byId("filter-text").addEventListener("input", (event) => changeView({ q: event.target.value }));
byId("filter-target").addEventListener("change", (event) => changeView({ target: event.target.value }));
byId("sort-select").addEventListener("change", (event) => changeView({ sort: event.target.value, descending: sortsDown(event.target.value) }));
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the router's
  byId("main").focus();
});
addEventListener("hashchange", showAddress);
setInterval(() => shared.fleet !== null && drawFleet(), CLOCK_EVERY_MS);

showAddress();
loadFleet().then((fleet) => shared.fleet === null && takeFleet(fleet), (error) => showProblem(error.message));
follow("api/stream", { onLink: showLink, onFleet: (value) => takeFleet(toFleet(value)) });
