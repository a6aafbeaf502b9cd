// The device table: rows are kept and changed in place, so focus, selection and scroll survive every update.

import { badge, rankOf, updateBadge } from "./states.js";
import { el, empty, setAttribute, setText } from "./dom.js";
import { NONE, ago, bytes, count, duration } from "./format.js";

const MOST_ROWS = matchMedia("(max-width: 820px)").matches ? 25 : 200;
const AGENT_COMMAND = "edgepe-agent run --config agent.toml";

const text = (key) => ({ value: (row) => row[key] ?? "", show: (cell, row) => setText(cell, row[key] || NONE) });
const number = (key, format) => ({
  numeric: true,
  value: (row) => row[key] ?? -1,
  show: (cell, row) => setText(cell, format(row[key])),
});

const COLUMNS = [
  { key: "device", label: "Device", value: (row) => row.device, make: deviceCell, show: showDevice },
  { key: "target", label: "Target", ...text("target") },
  { key: "online", label: "Link", value: (row) => (row.online ? 1 : 0), make: linkCell, show: showLink },
  { key: "model", label: "Model", ...text("model") },
  { key: "version", label: "Version", ...text("version") },
  { key: "state", label: "State", value: (row) => rankOf(row.state), make: () => badge(""), show: showState },
  { key: "p50_us", label: "p50", ...number("p50_us", duration) },
  { key: "p95_us", label: "p95", ...number("p95_us", duration) },
  { key: "p99_us", label: "p99", ...number("p99_us", duration) },
  { key: "rss_bytes", label: "Memory", ...number("rss_bytes", bytes) },
  { key: "inferences", label: "Inferences", ...number("inferences", count), show: showInferences },
  { key: "last_seen_ms", label: "Last seen", ...number("last_seen_ms", String), show: showSeen },
];

export const SORT_KEYS = COLUMNS.map(({ key, label }) => ({ key, label }));
/** Figures are read from the largest down, words from A. */
export const sortsDown = (key) => COLUMNS.some((column) => column.key === key && column.numeric === true);
export const deviceHref = (device) => `#/device/${encodeURIComponent(device)}`;

function deviceCell() {
  return el("a", { class: "name" });
}

function showDevice(cell, row) {
  setAttribute(cell.firstChild, "href", deviceHref(row.device));
  setText(cell.firstChild, row.device);
}

function linkCell() {
  return el("span", { class: "online" }, el("i", { "aria-hidden": "true" }), el("span", {}));
}

function showLink(cell, row) {
  setAttribute(cell.firstChild, "data-online", row.online ? "yes" : "no");
  setText(cell.firstChild.lastChild, row.online ? "online" : "offline");
}

function showState(cell, row) {
  updateBadge(cell.firstChild, row.percent > 0 && row.percent < 100 ? `${row.state} ${row.percent} %` : row.state, row.code);
}

function showInferences(cell, row) {
  setText(cell, row.errors > 0 ? `${count(row.inferences)} (${count(row.errors)} errors)` : count(row.inferences));
  setAttribute(cell, "data-tone", row.errors > 0 ? "bad" : null);
}

function showSeen(cell, row, now) {
  setText(cell, ago(row.last_seen_ms, now));
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

/** Rows that fit the filter, in the order asked for. Pure: tested by what the page shows. */
export function choose(devices, { q, target, sort, descending }) {
  const words = q.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const fits = (row) => {
    const line = [row.device, row.site, row.target, row.model, row.version, row.state, row.online ? "online" : "offline"];
    const haystack = line.join(" ").toLowerCase();
    return (target === "" || row.target === target) && words.every((word) => haystack.includes(word));
  };
  const column = COLUMNS.find((one) => one.key === sort) ?? COLUMNS[0];
  const sign = descending ? -1 : 1;
  return devices.filter(fits).sort((a, b) => sign * compare(column.value(a), column.value(b)) || compare(a.key, b.key));
}

/** Build the table inside `host`. `onSort(key)` is called when a heading is pressed. */
export function makeTable(host, { onSort }) {
  const rows = new Map();
  let most = MOST_ROWS;
  const headings = COLUMNS.map((column) => heading(column, onSort));
  const body = el("tbody", { role: "rowgroup" });
  const table = el(
    "table", { class: "devices", role: "table", "aria-labelledby": "devices-title" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...headings)), body,
  );
  const more = el("button", { type: "button", class: "ghost more", onclick: () => { most *= 4; last(); } });
  const message = el("div", {});
  host.replaceChildren(table, more, message);
  let last = () => {};

  const update = (devices, view, now) => {
    last = () => update(devices, view, now);
    const chosen = choose(devices, view);
    COLUMNS.forEach((column, index) => markSort(headings[index], column, view));
    place(body, rows, chosen.slice(0, most), now);
    table.hidden = chosen.length === 0;
    more.hidden = chosen.length <= most;
    setText(more, `Show more: ${count(chosen.length - most)} rows are not shown`);
    showMessage(message, devices.length, chosen.length);
    return chosen.length;
  };
  return update;
}

function heading(column, onSort) {
  const press = el("button", { type: "button", class: "sort", onclick: () => onSort(column.key) }, column.label, el("i", { "aria-hidden": "true" }));
  return el("th", { role: "columnheader", scope: "col", class: column.numeric ? "num" : null }, press);
}

function markSort(node, column, view) {
  const active = view.sort === column.key;
  setAttribute(node, "aria-sort", active ? (view.descending ? "descending" : "ascending") : null);
  setText(node.firstChild.lastChild, active ? (view.descending ? "▾" : "▴") : "");
}

function place(body, rows, chosen, now) {
  const wanted = new Set(chosen.map((row) => row.key));
  for (const [key, row] of rows) {
    if (!wanted.has(key)) {
      row.root.remove();
      rows.delete(key);
    }
  }
  chosen.forEach((data, index) => {
    const row = rows.get(data.key) ?? makeRow();
    rows.set(data.key, row);
    COLUMNS.forEach((column, number) => column.show(row.cells[number], data, now));
    setAttribute(row.root, "data-online", data.online ? "yes" : "no");
    if (body.children[index] !== row.root) body.insertBefore(row.root, body.children[index] ?? null);
  });
}

function makeRow() {
  const cells = COLUMNS.map((column, index) =>
    el(index === 0 ? "th" : "td", {
      role: index === 0 ? "rowheader" : "cell", scope: index === 0 ? "row" : null,
      class: column.numeric ? "num" : null, "data-label": column.label, "data-key": column.key,
    }, column.make?.() ?? null));
  return { root: el("tr", { role: "row" }, ...cells), cells };
}

function showMessage(host, total, shown) {
  const wanted = total === 0 ? "none" : shown === 0 ? "filtered" : "";
  if (host.dataset.shows === wanted) return;
  host.dataset.shows = wanted;
  if (wanted === "none") host.replaceChildren(empty("No device has reported yet. Start an agent with ", AGENT_COMMAND));
  else if (wanted === "filtered") host.replaceChildren(empty("No device fits the filter."));
  else host.replaceChildren();
}
