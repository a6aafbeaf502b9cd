// The only place that makes elements. Text goes in as text nodes: there is no innerHTML on this page, because
// device names, models, versions and messages come from outside.

/** Make an element: `el("td", {class: "num"}, "12", child)`. `null` children are skipped. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set the text of a node only where it differs: no needless layout, selections survive. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set or (for null) remove an attribute, only where it differs. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** A point in time as `<time>`: relative text, exact on hover. */
export function timeNode(ms, text) {
  if (!Number.isFinite(ms) || ms <= 0) return el("span", {}, text);
  const exact = new Date(ms);
  return el("time", { datetime: exact.toISOString(), title: exact.toLocaleString() }, text);
}

/** What a panel says while it has nothing to show, with the command that changes it. */
export function empty(text, command = null) {
  return el("p", { class: "empty" }, text, command === null ? null : el("code", {}, command));
}

/** Ask for a colour of the style sheet, resolved for the theme that is on now. */
export function colour(name) {
  const probe = el("span", { class: "probe" });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}
