// Lines over time with uPlot. A chart shows groups (a model version, a device); a group has one line per quantile.
// The legend is a real table beneath the canvas: it says in text what the lines show, under the cursor or latest.

import { colour, el, empty, setText } from "./dom.js";
import { clock } from "./format.js";

const HUES = [1, 2, 3, 4, 5, 6, 7, 8].map((number) => `series-${number}`);
const STROKES = [{ width: 2 }, { width: 1.5, dash: [7, 4], alpha: 0.8 }, { width: 1.25, dash: [2, 3], alpha: 0.65 }];
const HEIGHT_PX = 210;
const TIME_STEPS_S = [60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400];
const MOST_GROUPS = HUES.length;
const CROWDED = 3;

/**
 * Make a chart in `host`: `kind` = {title, lines: [{key, label}], format, steps, hint}; `steps` are the
 * distances that the marks of the upright axis may have.
 * Returns {update(groups), redraw()}.
 */
export function makeChart(host, kind) {
  const canvasHost = el("div", { class: "canvas", role: "img", hidden: true });
  const legend = el("table", { class: "legend", hidden: true });
  const rest = el("p", { class: "note", hidden: true });
  const message = empty(kind.hint);
  host.replaceChildren(canvasHost, legend, rest, message);
  const hues = new Map(), off = new Set();
  let plot = null, shape = "", groups = [];

  const isOn = (group, line) => !off.has(group.name) && !off.has(line.key);
  const showAt = (index) => fillLegend(legend, kind, groups, index);
  const build = () => {
    plot?.destroy();
    plot = new globalThis.uPlot(options({ kind, groups, hues, isOn, host: canvasHost, showAt }), columns(groups, kind), canvasHost);
  };
  const toggle = (name, button) => {
    if (!off.delete(name)) off.add(name);
    button.setAttribute("aria-pressed", String(!off.has(name)));
    groups.flatMap((group) => kind.lines.map((line) => isOn(group, line))).forEach((show, index) => {
      if (plot.series[index + 1].show !== show) plot.setSeries(index + 1, { show });
    });
  };

  const update = (all) => {
    groups = latest(all);
    // Many groups with three lines each are a thicket: the middle line then starts hidden, its figures do not.
    if (shape === "" && groups.length > CROWDED && kind.lines.length > 2) off.add(kind.lines[1].key);
    for (const group of groups) if (!hues.has(group.name)) hues.set(group.name, HUES[hues.size % HUES.length]);
    const filled = groups.length > 0;
    message.hidden = filled;
    canvasHost.hidden = legend.hidden = !filled;
    rest.hidden = all.length <= groups.length;
    setText(rest, `${groups.length} of ${all.length} are shown, those that reported last: choose a target above to see others.`);
    if (!filled) return;
    const nextShape = groups.map((group) => group.name).join("\n");
    if (plot === null || nextShape !== shape) {
      shape = nextShape;
      buildLegend(legend, { kind, groups, hues, off, toggle });
      build();
    } else {
      plot.setData(columns(groups, kind));
    }
    canvasHost.setAttribute("aria-label", describe(kind, groups));
    showAt(plot.cursor.idx ?? null);
  };
  const redraw = () => plot !== null && !canvasHost.hidden && build();
  new ResizeObserver(() => {
    if (plot !== null && canvasHost.clientWidth > 0 && plot.width !== canvasHost.clientWidth) {
      plot.setSize({ width: canvasHost.clientWidth, height: HEIGHT_PX });
    }
  }).observe(canvasHost);
  return { update, redraw };
}

/** As many groups as there are colours, those that reported last, in the order in which they came. */
function latest(all) {
  const end = (group) => group.points.at(-1)?.time_ms ?? 0;
  const kept = new Set(all.filter((group) => group.points.length > 0).sort((a, b) => end(b) - end(a)).slice(0, MOST_GROUPS));
  return all.filter((group) => kept.has(group));
}

/** uPlot wants one shared column of times; a group without a point at a time leaves a gap there. */
function columns(groups, kind) {
  const times = [...new Set(groups.flatMap((group) => group.points.map((point) => point.time_ms)))].sort((a, b) => a - b);
  const place = new Map(times.map((time, index) => [time, index]));
  const lines = groups.flatMap((group) => kind.lines.map((line) => {
    const values = new Array(times.length).fill(undefined);
    for (const point of group.points) values[place.get(point.time_ms)] = point[line.key] ?? null;
    return values;
  }));
  return [times.map((time) => time / 1000), ...lines];
}

function options({ kind, groups, hues, isOn, host, showAt }) {
  const text = colour("muted"), grid = colour("line");
  const axis = { stroke: text, font: "11px system-ui, sans-serif", grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  return {
    width: host.clientWidth || 300,
    height: HEIGHT_PX,
    padding: [10, 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { y: { range: (_, low, high) => [0, (high || 1) * 1.08] } },
    axes: [
      { ...axis, values: (_, splits) => splits.map((at) => clock(at * 1000).slice(0, 5)), incrs: TIME_STEPS_S, space: 60, size: 26 },
      { ...axis, values: (_, splits) => splits.map((value) => (value === 0 ? "0" : kind.format(value))), incrs: kind.steps, size: 64, space: 34 },
    ],
    series: [{}, ...groups.flatMap((group) => kind.lines.map((line, index) => ({
      stroke: colour(hues.get(group.name)), ...STROKES[index], points: { show: sparse, size: 5 }, show: isOn(group, line),
    })))],
    hooks: { setCursor: [(plot) => showAt(plot.cursor.idx ?? null)] },
  };
}

/** A line of two points is a dot on a wide chart: mark the points while there are few. */
function sparse(plot, series, from, to) {
  return to - from < 8;
}

function buildLegend(legend, { kind, groups, hues, off, toggle }) {
  const button = (name, mark, label) => el("button", {
    type: "button", class: "series", title: "Show or hide", "aria-pressed": String(!off.has(name)),
    onclick: (event) => toggle(name, event.currentTarget),
  }, mark, label);
  const head = el("tr", {}, el("th", { scope: "col" }, el("span", { class: "legend-time" })), ...kind.lines.map((line, index) =>
    el("th", { scope: "col", class: "num" }, button(line.key, el("i", { class: `stroke stroke-${index}`, "aria-hidden": "true" }), line.label))));
  const rows = groups.map((group) => el("tr", {},
    el("th", { scope: "row" }, button(group.name, el("i", { class: "swatch", "data-hue": hues.get(group.name), "aria-hidden": "true" }), group.name)),
    ...kind.lines.map(() => el("td", { class: "num" }))));
  legend.replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
}

function fillLegend(legend, kind, groups, index) {
  const times = [...new Set(groups.flatMap((group) => group.points.map((point) => point.time_ms)))].sort((a, b) => a - b);
  const at = index === null ? null : times[index];
  setText(legend.querySelector(".legend-time"), at === null ? "latest" : `at ${clock(at)}`);
  const rows = legend.tBodies[0]?.rows ?? [];
  groups.forEach((group, place) => {
    const point = at === null ? group.points.at(-1) : group.points.find((one) => one.time_ms === at);
    kind.lines.forEach((line, number) => setText(rows[place].cells[number + 1], kind.format(point?.[line.key])));
  });
}

function describe(kind, groups) {
  const lines = groups.map((group) => {
    const last = group.points.at(-1);
    return `${group.name}: ${kind.lines.map((line) => `${line.label} ${kind.format(last?.[line.key])}`).join(", ")}`;
  });
  return `${kind.title} over time. Latest: ${lines.join("; ")}`;
}
