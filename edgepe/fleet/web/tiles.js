// The headline figures. Percentiles come from the server's merged histograms and are never averaged here.

import { badge, updateBadge } from "./states.js";
import { el, setAttribute, setText } from "./dom.js";
import { NONE, bytes, count, duration, rate } from "./format.js";

const PER_SECOND_WINDOW_MS = 30_000;

/** Inferences per second over the last half minute, from the devices' growing counters. */
export class RateMeter {
  #last = new Map();
  #steps = [];
  #began = null;

  /** Take the rows of one update; `now` in ms. Returns the rate, or null until two updates have come. */
  add(devices, now) {
    let grown = 0;
    for (const row of devices) {
      const before = this.#last.get(row.key);
      const after = row.inferences ?? 0;
      // A smaller figure is a new model version that counts from zero.
      if (before !== undefined) grown += after >= before ? after - before : after;
      this.#last.set(row.key, after);
    }
    if (this.#began === null) {
      this.#began = now;
      return null;
    }
    this.#steps.push({ now, grown });
    this.#steps = this.#steps.filter((step) => now - step.now < PER_SECOND_WINDOW_MS);
    const seconds = Math.min(PER_SECOND_WINDOW_MS, now - this.#began) / 1000;
    return seconds < 1 ? null : this.#steps.reduce((sum, step) => sum + step.grown, 0) / seconds;
  }
}

function tile(title, ...content) {
  const note = el("p", { class: "tile-note" });
  return { root: el("div", { class: "tile" }, el("h2", {}, title), ...content, note), note };
}

function figure() {
  return el("p", { class: "figure" }, NONE);
}

/** Build the row of tiles inside `host`; returns `update(fleet, perSecond, rollout)`. */
export function makeTiles(host) {
  const online = figure(), inferences = figure(), memory = figure(), messages = figure();
  const quantiles = ["p50", "p95", "p99"].map((name) => ({ name, value: el("dd", {}, NONE) }));
  const rolloutName = el("a", { class: "figure", href: "#/?show=rollouts" }, NONE), rolloutState = badge("IDLE");
  const tiles = {
    online: tile("Devices online", online),
    latency: tile("Latency, all devices merged", el("dl", { class: "quantiles" }, ...quantiles.map((q) => el("div", {}, el("dt", {}, q.name), q.value)))),
    inferences: tile("Inferences", inferences),
    memory: tile("Model memory", memory),
    messages: tile("Telemetry", messages),
    rollout: tile("Roll-out", el("div", { class: "tile-row" }, rolloutName, rolloutState)),
  };
  tiles.latency.root.classList.add("wide");
  tiles.rollout.root.classList.add("last");
  host.replaceChildren(...Object.values(tiles).map((one) => one.root));

  return (fleet, perSecond, rollout) => {
    const { status, devices } = fleet;
    setText(online, `${count(status.online)} / ${count(status.devices)}`);
    setText(tiles.online.note, statesInWords(devices));
    for (const one of quantiles) setText(one.value, duration(status[`${one.name}_us`]));
    setText(inferences, rate(perSecond));
    const errors = sum(devices, "errors");
    setText(tiles.inferences.note, `${count(sum(devices, "inferences"))} in all, ${count(errors)} errors`);
    setAttribute(tiles.inferences.note, "data-tone", errors > 0 ? "bad" : null);
    showMemory(memory, tiles.memory.note, devices);
    setText(messages, count(status.messages));
    setText(tiles.messages.note, `${count(status.lost)} lost, ${count(status.duplicates)} duplicates removed${status.poison > 0 ? `, ${count(status.poison)} unreadable` : ""}`);
    setAttribute(tiles.messages.note, "data-tone", status.lost + status.poison > 0 ? "bad" : null);
    tiles.rollout.root.hidden = rollout === null;
    if (rollout !== null) {
      setText(rolloutName, `${rollout.name} ${rollout.version}`);
      updateBadge(rolloutState, rollout.state);
      setText(tiles.rollout.note, `${rollout.committed} of ${rollout.devices.length} committed`);
    }
  };
}

const sum = (rows, key) => rows.reduce((total, row) => total + (row[key] ?? 0), 0);

function showMemory(node, note, devices) {
  const reporting = devices.filter((row) => row.rss_bytes > 0);
  const largest = reporting.reduce((most, row) => (most === null || row.rss_bytes > most.rss_bytes ? row : most), null);
  setText(node, largest === null ? NONE : bytes(largest.rss_bytes));
  setText(note, largest === null ? "no worker has reported" : `largest worker, on ${largest.device}`);
}

function statesInWords(devices) {
  const counts = new Map();
  for (const row of devices) {
    const state = row.state === "" ? "no update yet" : row.state.replaceAll("_", " ").toLowerCase();
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, 2).map(([state, n]) => `${n} ${state}`).join(", ") || "none yet";
}
