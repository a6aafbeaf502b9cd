// Roll-outs: the running one open, earlier ones folded. Each wave is a bar of its devices' states, each device a row
// with the reason of the last decision about it.

import { deviceHref } from "./table.js";
import { badge, toneOf } from "./states.js";
import { el, empty, setText, timeNode } from "./dom.js";
import { ago, count } from "./format.js";

const START_COMMAND = "edgepe rollout start NAME VERSION";

/** Build the panel; returns `update(rollouts, now)`. Redrawn only when the roll-outs differ. */
export function makeRollouts(host) {
  let drawn = "";
  return (rollouts, now) => {
    const next = JSON.stringify(rollouts);
    if (next === drawn) {
      host.querySelectorAll("details").forEach((node, index) => setText(node.querySelector("time"), ago(rollouts[index].started_ms, now)));
      return;
    }
    drawn = next;
    const opened = new Map([...host.querySelectorAll("details")].map((node) => [node.dataset.id, node.open]));
    if (rollouts.length === 0) {
      host.replaceChildren(empty("Nothing has been rolled out yet. Publish a bundle, then ", START_COMMAND));
      return;
    }
    host.replaceChildren(...rollouts.map((rollout, index) => block(rollout, opened.get(rollout.id) ?? index === 0, now)));
  };
}

function block(rollout, open, now) {
  const reason = rollout.reason === "" ? null : el("p", { class: "reason" }, rollout.reason);
  return el("details", { class: "rollout", open, "data-id": rollout.id },
    el("summary", {},
      el("span", { class: "rollout-name" }, `${rollout.name} ${rollout.version}`),
      badge(rollout.state),
      el("span", { class: "note" }, `${count(rollout.committed)} of ${count(rollout.devices.length)} committed`),
      el("span", { class: "note push" }, timeNode(rollout.started_ms, ago(rollout.started_ms, now)))),
    reason,
    ...waves(rollout).map(waveBlock),
    rollout.skipped.length === 0 ? null : el("div", { class: "wave" }, el("h3", {}, "Left out"),
      el("ul", { class: "wave-devices" }, ...rollout.skipped.map((row) => el("li", {}, deviceLink(row.device), el("span", { class: "reason rest" }, row.reason))))));
}

const deviceLink = (device) => el("a", { href: deviceHref(device) }, device);

function waves(rollout) {
  const numbers = [...new Set(rollout.devices.map((row) => row.wave))].sort((a, b) => a - b);
  return numbers.map((number, place) => ({
    title: `Wave ${place + 1} of ${Math.max(numbers.length, rollout.waves)}`,
    devices: rollout.devices.filter((row) => row.wave === number),
  }));
}

function waveBlock(wave) {
  const settled = wave.devices.filter((row) => toneOf(row.state) === "good").length;
  const bar = el("div", { class: "wave-bar", "aria-hidden": "true" }, ...["good", "busy", "warn", "bad", "idle"].map((tone) => {
    const n = wave.devices.filter((row) => toneOf(row.state) === tone).length;
    const part = el("i", { "data-tone": tone });
    part.style.flexGrow = String(n);
    part.hidden = n === 0;
    return part;
  }));
  return el("div", { class: "wave" },
    el("h3", {}, wave.title, el("span", { class: "note" }, `${settled} of ${wave.devices.length} committed`)),
    bar,
    el("ul", { class: "wave-devices" }, ...wave.devices.map((row) => el("li", {},
      deviceLink(row.device),
      badge(row.state, row.code),
      el("span", { class: "reason" }, [progress(row), row.reason].filter((part) => part !== "").join(" "))))));
}

const progress = (row) => (row.percent > 0 && row.percent < 100 ? `${row.percent} %` : "");

/** The one-line form for the headline. */
export function current(rollouts) {
  return rollouts.find((one) => toneOf(one.state) === "busy") ?? rollouts[0] ?? null;
}
