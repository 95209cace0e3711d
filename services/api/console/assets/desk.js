// The page's own script: fills in what the server tells, and never lets old figures look fresh.
// Charts are charts.js's; it listens to the "desk" events sent from here.
(() => {
  "use strict";
  const SILENT_AFTER = 2000; // ms: the server says something each second
  const LOOK_EVERY = 200;
  const WITHOUT_SOCKET = 6000;

  const all = (selector) => document.querySelectorAll(selector);
  const one = (selector) => document.querySelector(selector);
  const began = Date.now();
  let last = 0;
  let lost = false;
  let hooked = null;
  let asking = false;
  const state = { text: {}, mark: {}, clock: {} };
  window.desk = { state, listeners: [], on: (listener) => window.desk.listeners.push(listener) };

  // --- what the server tells ---
  function take(message) {
    Object.assign(state.text, message.text);
    Object.assign(state.mark, message.mark);
    for (const key of ["clock", "run", "note", "first_steps", "trades", "alerts", "position", "stop"])
      if (key in message) state[key] = message[key];
    show(message);
    for (const listener of window.desk.listeners) listener(message);
  }

  function show(message) {
    for (const node of all("[data-live]")) {
      const text = state.text[node.dataset.live];
      if (text !== undefined && node.textContent !== text) node.textContent = text;
    }
    for (const node of all("[data-mark]")) {
      const mark = state.mark[node.dataset.mark];
      if (mark !== undefined && node.dataset.is !== mark) node.dataset.is = mark;
    }
    if (state.mark.mode) document.body.dataset.mode = state.mark.mode;
    document.body.classList.toggle("desk-doubtful", state.mark.doubtful === "true");
    const standing = one("[data-standing]");
    if (standing && standing.textContent !== (state.text.standing || "")) {
      standing.textContent = state.text.standing;
      standing.hidden = !state.text.standing;
    }
    if ("note" in message) {
      const node = one("[data-trouble]");
      if (node) { node.textContent = state.note; node.hidden = !state.note; }
    }
    if ("first_steps" in message) {
      const [steps, results] = [one("[data-first-steps]"), one("[data-results]")];
      if (steps) { steps.hidden = !state.first_steps; steps.toggleAttribute("hidden", !state.first_steps); }
      if (results) results.classList.toggle("desk-hidden", state.first_steps);
      window.dispatchEvent(new Event("resize"));
    }
    if ("trades" in message) showTrades(state.trades);
    if ("alerts" in message) showAlerts(state.alerts);
    if ("stop" in message) showStop(state.stop);
    tick();
  }

  function element(tag, text, className) {
    const node = document.createElement(tag);
    if (text) node.textContent = text;
    if (className) node.className = className;
    return node;
  }

  function emptyRow() {
    const row = element("tr");
    const cell = element("td", "none yet", "desk-minor");
    cell.colSpan = 9;
    row.append(cell);
    return row;
  }

  function showTrades(trades) {
    const body = one("[data-trades]");
    if (!body) return;
    if (!trades.length) return body.replaceChildren(emptyRow());
    body.replaceChildren(...trades.map((trade) => {
      const row = element("tr");
      row.dataset.trade = `${trade.run}-${trade.seq}`;
      trade.cells.forEach((cell, place) => {
        const node = element("td", cell, place >= 3 && place <= 7 ? "desk-number" : "");
        if (place === 6 || place === 7) { node.classList.add("desk-signed"); node.dataset.is = trade.sign; }
        row.append(node);
      });
      return row;
    }));
  }

  function showAlerts(alerts) {
    const list = one("[data-alerts]");
    if (!list || !alerts.length) return;
    list.replaceChildren(...alerts.map((alert) => {
      const item = element("li");
      const head = element("div", "", "desk-alert-head");
      const severity = element("span", alert.severity.toLowerCase(), "desk-severity");
      severity.dataset.is = alert.severity.toLowerCase();
      head.append(severity, element("time", alert.when, "desk-minor"));
      item.append(head, element("div", alert.text), element("div", alert.action, "desk-minor"));
      return item;
    }));
  }

  function showStop(stop) {
    const node = one("[data-stop]");
    if (!node) return;
    node.hidden = !stop;
    if (!stop) return node.replaceChildren();
    node.dataset.is = stop.state;
    const steps = element("ol");
    for (const step of stop.steps) {
      const item = element("li", step.name);
      item.dataset.reached = step.reached;
      if (step.at) item.append(element("span", step.at, "desk-minor"));
      steps.append(item);
    }
    const said = stop.state === "failed" ? `failed: ${stop.reason}`
      : stop.state === "done" ? "done: the broker has confirmed" : stop.reason || "under way";
    node.replaceChildren(element("strong", stop.title), steps, element("span", said, "desk-said"));
  }

  // --- clocks ---
  function span(milliseconds) {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const days = Math.floor(seconds / 86400);
    const clock = `${two(Math.floor(seconds / 3600) % 24)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
    return days ? `${days} d ${clock}` : clock;
  }

  function tick() {
    if (lost) return;
    const { start, end, ended } = state.clock || {};
    const now = Date.now();
    const set = (name, text) => all(`[data-clock=${name}]`).forEach((node) => { node.textContent = text; });
    set("since", start ? span((ended || now) - start) : "–");
    set("left", end && !ended ? span(end - now) : "–");
    const label = one("[data-clock-label]");
    if (label) label.textContent = ended ? "Ran for" : "Deployed for";
  }

  // --- the connection ---
  function look() {
    hook();
    const socket = window.socket;
    const now = Date.now();
    const away = last ? !socket?.connected || now - last > SILENT_AFTER : now - began > WITHOUT_SOCKET;
    if (away !== lost) setLost(away);
    if (lost) askForSession();
  }

  function hook() {
    if (!window.socket || window.socket === hooked) return;
    hooked = window.socket;
    hooked.onAny(() => { last = Date.now(); if (lost) look(); });
    hooked.on("desk", take);
    hooked.on("disconnect", askForSession);
    const here = () => hooked.emit("desk_here");
    hooked.on("connect", here);
    if (hooked.connected) here();
    // NiceGUI reloads the page when connecting takes long, and would land on the browser's error page.
    hooked.io.timeout(false);
    hooked.io.reconnectionDelay(500);
    hooked.io.reconnectionDelayMax(2000);
  }

  function setLost(away) {
    lost = away;
    document.body.classList.toggle("desk-gone", lost);
    const note = one("[data-lost]");
    if (note) {
      const since = new Date(last || began).toLocaleTimeString([], { hour12: false });
      note.textContent = lost
        ? `No word from the desk since ${since}. Figures are old; trading may go on. Trying again by itself.` : "";
      note.hidden = !lost;
    }
    showConnection();
    if (!lost) tick();
  }

  function showConnection() {
    const node = one("[data-connection]");
    if (!node) return;
    const word = lost ? "lost" : last ? "live" : "connecting";
    if (node.dataset.connection === word) return;
    node.dataset.connection = word;
    node.querySelector("[data-connection-text]").textContent = word;
  }

  // A session that has ended takes the socket with it: nothing to wait for here. And a server that died while
  // the page was loading leaves no socket to come back by.
  async function askForSession() {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch("/console/session", { cache: "no-store", signal: AbortSignal.timeout(2000) });
      const { session } = await answer.json();
      if (session === "ended") return logInAgain();
      if (session === "holds" && lost && (!window.socket || !last)) return window.location.reload();
    } catch { /* still away */ } finally {
      setTimeout(() => { asking = false; }, 1000);
    }
  }

  // Logging out ends the session before its answer is here, and that answer must not be cut off.
  const LEAVES_WITHIN = 5000;
  let leaving = 0;
  document.addEventListener("submit", () => { leaving = Date.now(); });

  function logInAgain() {
    if (Date.now() - leaving < LEAVES_WITHIN) return;
    window.socket?.io.reconnection(false);
    window.location.assign(`/login?said=ended&next=${encodeURIComponent(window.location.pathname)}`);
  }

  // --- light and dark ---
  const THEMES = ["system", "light", "dark"];
  const theme = () => THEMES.includes(localStorage.deskTheme) ? localStorage.deskTheme : "system";
  function applyTheme() {
    window.Quasar?.Dark.set(theme() === "system" ? "auto" : theme() === "dark");
    const text = one("[data-theme-text]");
    if (text) text.textContent = `Theme: ${theme()}`;
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme]")) return;
    localStorage.deskTheme = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    applyTheme();
  });

  let themed = false;
  setInterval(() => {
    look();
    showConnection();
    if (!themed && one("[data-theme-text]")) { themed = true; applyTheme(); if (last) show(state); }
  }, LOOK_EVERY);
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", look);
})();
