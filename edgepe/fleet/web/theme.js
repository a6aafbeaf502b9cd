// Runs before the first paint, so that a stored choice of light or dark never flashes the other one.
// Classic script on purpose: a module would run after the body is parsed.
"use strict";
{
  let stored = null;
  try {
    stored = localStorage.getItem("edgepe-theme");
  } catch {
    // Storage is refused (private window, policy): the system's preference stands.
  }
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
}
