// The stream of live updates. EventSource reconnects by itself after a cut; after an answer that it holds for final
// (a restart behind a proxy answers 502 for a moment) it gives up, so this module opens a new one with a growing pause.

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

/** Follow `url`. Calls `onFleet(value)` for each update and `onLink("live" | "reconnecting")` for the connection. */
export function follow(url, { onFleet, onLink }) {
  let pause = FIRST_PAUSE_MS;
  let timer = null;
  let source = null;

  const open = () => {
    timer = null;
    source = new EventSource(url);
    source.addEventListener("open", () => {
      pause = FIRST_PAUSE_MS;
      onLink("live");
    });
    source.addEventListener("fleet", (event) => {
      let value = null;
      try {
        value = JSON.parse(event.data);
      } catch {
        return; // a cut line: the next update carries everything again
      }
      onFleet(value);
    });
    source.addEventListener("error", () => {
      onLink("reconnecting");
      if (source.readyState === EventSource.CLOSED && timer === null) {
        timer = setTimeout(open, pause);
        pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
      }
    });
  };
  open();
  // A page that goes into the back/forward cache or away must not hold a connection of the server.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && open());
}
