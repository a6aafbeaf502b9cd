// The one place that knows the shapes of the HTTP API. Everything behind it works on the plain values made here:
// a field that an older server does not send is "" or null, never undefined, and never a guess.

const TIMEOUT_MS = 10_000;

const textOf = (value) => (typeof value === "string" ? value : typeof value === "number" ? String(value) : "");
const numberOf = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
const listOf = (value) => (Array.isArray(value) ? value : []);

async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: the server answered ${answer.status}`);
  return answer.json();
}

/** A device that serves two models has two rows: `key` tells them apart. */
function toDevice(row) {
  return {
    key: `${textOf(row.device)}/${textOf(row.model)}`,
    device: textOf(row.device), site: textOf(row.site), target: textOf(row.target), online: row.online === true,
    model: textOf(row.model), version: textOf(row.version), state: textOf(row.state), code: textOf(row.code),
    percent: numberOf(row.percent), p50_us: numberOf(row.p50_us), p95_us: numberOf(row.p95_us), p99_us: numberOf(row.p99_us),
    rss_bytes: numberOf(row.rss_bytes), temperature_mc: numberOf(row.temperature_mc), inferences: numberOf(row.inferences),
    errors: numberOf(row.errors), last_seen_ms: numberOf(row.last_seen_ms),
  };
}

function toStatus(value, devices) {
  return {
    devices: numberOf(value.devices) ?? devices.length,
    online: numberOf(value.online) ?? devices.filter((row) => row.online).length,
    messages: numberOf(value.messages), lost: numberOf(value.lost), duplicates: numberOf(value.duplicates),
    poison: numberOf(value.poison),
    p50_us: numberOf(value.p50_us), p95_us: numberOf(value.p95_us), p99_us: numberOf(value.p99_us),
  };
}

function toRolloutDevice(row) {
  return {
    device: textOf(row.device), wave: numberOf(row.wave) ?? 0, state: textOf(row.state), code: textOf(row.code),
    percent: numberOf(row.percent), reason: textOf(row.reason),
  };
}

function toRollout(row) {
  const devices = listOf(row.devices).map(toRolloutDevice);
  return {
    id: textOf(row.id), name: textOf(row.name), version: textOf(row.version), state: textOf(row.state),
    reason: textOf(row.reason), wave: numberOf(row.wave) ?? 0, waves: listOf(row.waves).length,
    committed: numberOf(row.committed) ?? 0, started_ms: numberOf(row.started_ms), devices,
    skipped: Object.entries(row.skipped ?? {}).map(([device, reason]) => ({ device, reason: textOf(reason) })),
  };
}

function toEvent(row) {
  return {
    time_ms: numberOf(row.time_ms), device: textOf(row.device), kind: textOf(row.kind), code: textOf(row.code),
    detail: textOf(row.detail),
  };
}

function toPoint(row) {
  return {
    time_ms: numberOf(row.time_ms) ?? 0, p50_us: numberOf(row.p50_us), p95_us: numberOf(row.p95_us),
    p99_us: numberOf(row.p99_us), rss_bytes: numberOf(row.rss_bytes),
  };
}

/** The value of a "fleet" update: `{status, devices, rollouts, events}`, roll-outs and events newest first. */
export function toFleet(value) {
  const devices = listOf(value.devices).map(toDevice);
  return {
    status: toStatus(value.status ?? {}, devices), devices,
    rollouts: listOf(value.rollouts).map(toRollout), events: listOf(value.events).map(toEvent),
  };
}

/** The same value by plain requests: for the first sight, before the stream speaks. */
export async function loadFleet() {
  const [status, devices, rollouts, events] = await Promise.all(["status", "devices", "rollouts", "events"].map((name) => get(`api/${name}`)));
  return toFleet({ status, devices: devices.devices, rollouts: rollouts.rollouts, events: events.events });
}

/** Lines over time, one group for each model version and target: `[{name, target, points}]`, oldest point first. */
export async function loadSeries(minutes) {
  const { series } = await get(`api/latency?minutes=${minutes}`);
  const groups = listOf(series).map((one) => ({
    name: [`${textOf(one.model)} ${textOf(one.version)}`, textOf(one.target)].filter((part) => part !== "").join(", "),
    target: textOf(one.target),
    points: listOf(one.points).map(toPoint),
  }));
  return groups.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
}

/** One device: `{facts: [[name, value], …], models: [row, …], groups: [{name, points}], events}`. */
export async function loadDevice(device) {
  const value = await get(`api/devices/${encodeURIComponent(device)}`);
  const groups = new Map();
  for (const row of listOf(value.windows)) {
    const name = `${textOf(row.model)} ${textOf(row.version)}`;
    groups.set(name, [...(groups.get(name) ?? []), toPoint(row)]);
  }
  return {
    facts: [
      ["Site", textOf(value.site)], ["Target", textOf(value.target)], ["Agent", textOf(value.agent_version)],
      ["Runtimes", listOf(value.runtimes).map((pair) => listOf(pair).map(textOf).join(" ")).join(", ")],
      ...Object.entries(value.hardware ?? {}).map(([name, item]) => [name, item]),
      ["Desired revision", textOf(value.desired_rev)],
    ],
    models: listOf(value.models).map(toDevice),
    groups: [...groups].map(([name, points]) => ({ name, points })),
    events: listOf(value.events).map(toEvent),
  };
}
