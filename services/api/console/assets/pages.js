// Risk, Alerts, Settings and the documentation: bars that move, parts that are made anew when the feed has news of them,
// buttons within, and how many alerts wait. What the server tells comes by way of desk.js.
(() => {
  "use strict";
  const all = (selector) => document.querySelectorAll(selector);
  const one = (selector) => document.querySelector(selector);
  const heard = {};
  let focused = null;

  function hear(message) {
    if (message.text) {
      showOpen();
      showMeters();
      askAnew(message.text);
    }
    if ("verdicts" in message) showVerdicts(message.verdicts);
  }

  // --- how many CRITICAL alerts nobody has acknowledged, in the navigation of every page ---
  function showOpen() {
    const count = window.desk.state.text["open-critical"];
    const link = one('.desk-nav a[href="/alerts"]');
    if (!link || count === undefined) return;
    let badge = link.querySelector(".desk-badge");
    if (count === "0") return badge?.remove();
    if (!badge) {
      badge = document.createElement("span");
      badge.className = "desk-badge";
      link.append(badge);
    }
    if (badge.dataset.count === count) return;
    badge.dataset.count = count;
    const words = document.createElement("span");
    words.className = "desk-unseen";
    words.textContent = " critical, unacknowledged";
    badge.replaceChildren(count, words);
  }

  function showMeters() {
    for (const meter of all("[data-meter]")) {
      const [share, use, word] = ["share", "use", "word"].map((key) => window.desk.state.text[`${key}-${meter.dataset.meter}`]);
      if (share === undefined) continue;
      const width = Math.max(0, Math.min(100, parseFloat(share.replace(/,/g, "")) || 0)).toFixed(1);
      if (meter.getAttribute("aria-valuenow") !== width) {
        meter.setAttribute("aria-valuenow", width);
        meter.firstElementChild.style.width = `${width}%`;
      }
      meter.setAttribute("aria-valuetext", `${share}, ${use}, ${word}`);
    }
  }

  function showVerdicts(known) {
    const [approved, denied, reasons] = ["approved", "denied", "reasons"].map((name) => one(`[data-${name}]`));
    if (!approved || !known) return;
    approved.textContent = known.approved.toLocaleString("en-US");
    denied.textContent = known.denied.toLocaleString("en-US");
    const body = reasons.querySelector("tbody");
    if (!body) return known.reasons.length ? window.emitEvent("desk_renew") : undefined;
    body.replaceChildren(...known.reasons.map((reason) => {
      const row = document.createElement("tr");
      const cells = [[reason.code.replaceAll("_", " "), ""], [reason.orders.toLocaleString("en-US"), "desk-number"],
        [reason.last_text, "desk-wrap"]];
      row.append(...cells.map(([text, className]) => Object.assign(document.createElement("td"), { textContent: text, className })));
      return row;
    }));
  }

  // --- parts made anew by the server ---
  function askAnew(text) {
    for (const part of all("[data-renew-on]")) {
      const news = text[part.dataset.renewOn];
      if (news === undefined || heard[part.dataset.renewOn] === news) continue;
      const first = !(part.dataset.renewOn in heard);
      heard[part.dataset.renewOn] = news;
      if (!first) window.emitEvent("desk_renew");
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (!button) return;
    focused = button.dataset.key;
    window.emitEvent("desk_do", { do: button.dataset.do, to: button.dataset.to });
  });

  // A part that is made anew takes the focus of what was in it away: give it to the same button, or to the one that
  // now stands in its place.
  let places = [];
  document.addEventListener("focusin", (event) => {
    const key = event.target.closest?.("[data-key]")?.dataset.key;
    focused = key || null;
    if (key) places = [...all("[data-renew-on] [data-key]")].map((node) => node.dataset.key);
  });
  function giveFocusBack() {
    if (!focused || document.activeElement !== document.body) return;
    const now = [...all("[data-renew-on] [data-key]")];
    const at = places.indexOf(focused);
    const next = now.find((node) => node.dataset.key === focused)
      || now.find((node) => places.indexOf(node.dataset.key) > at) || now.at(-1);
    next?.focus({ preventScroll: true });
  }

  // --- documentation ---
  function openDocs() {
    const fold = one(".desk-docs-fold");
    if (!fold) return;
    const list = fold.nextElementSibling;
    const narrow = window.matchMedia("(max-width: 900px)");
    const apply = () => { list.hidden = narrow.matches && !fold.open; };
    fold.addEventListener("toggle", apply);
    narrow.addEventListener("change", apply);
    apply();
    const docs = one('.desk-nav a[href="/docs"]');
    docs?.setAttribute("aria-current", "page");
    if (window.location.hash) document.getElementById(decodeURIComponent(window.location.hash.slice(1)))?.scrollIntoView();
  }

  let begun = false;
  const beginning = setInterval(() => {
    if (begun || !window.desk || !one(".desk-nav")) return;
    begun = true;
    clearInterval(beginning);
    window.desk.on(hear);
    hear(window.desk.state);
    openDocs();
    new MutationObserver(() => { giveFocusBack(); showMeters(); }).observe(document.body, { childList: true, subtree: true });
  }, 100);
})();
