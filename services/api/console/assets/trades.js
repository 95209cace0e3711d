// The trades' table: what is shown stands in the page's address; rows come worded from the server, a page at a
// time. The head of the table stays as it is, so that sorting by keyboard keeps its place.
(() => {
  "use strict";
  const FILTERS = ["run", "strategy", "instrument", "outcome", "from", "to"];
  const FIRST_FALLING = ["time", "pnl", "r_multiple"];
  const NUMBERS = [3, 4, 7, 8, 9];
  const SIGNED = [3, 4];
  const RUN = 11;
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => document.querySelectorAll(selector);
  let turn = 0;
  let shown = {};
  let opened = null;
  let left = null;

  const address = () => new URLSearchParams(window.location.search);
  const sorted = (query) => [query.get("sort") || "time", query.get("order") || "descending"];

  function go(change, { keepPage = false, replace = false } = {}) {
    const query = address();
    if (!keepPage) query.delete("cursor");
    for (const [name, value] of Object.entries(change)) value ? query.set(name, value) : query.delete(name);
    const text = query.toString();
    window.history[replace ? "replaceState" : "pushState"](null, "", text ? `?${text}` : window.location.pathname);
    show();
  }

  function show() {
    const query = address();
    fillForm(query);
    showSort(query);
    read(query);
    showStory(query.get("open"));
  }

  function fillForm(query) {
    for (const name of FILTERS) {
      const field = one(`[data-filters] [name=${name}]`);
      const value = query.get(name) || "";
      if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value))
        field.add(new Option(value, value));
      if (field.value !== value) field.value = value;
    }
  }

  function showSort(query) {
    const [sort, order] = sorted(query);
    for (const head of all("th[data-sort]")) {
      if (head.dataset.sort === sort) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    }
  }

  async function read(query) {
    const wanted = new URLSearchParams(query);
    wanted.delete("open");
    const text = wanted.toString();
    if (text === shown.query) return;
    const mine = ++turn;
    const region = one("[data-rows]").closest(".desk-scroll");
    region.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`/console/data/trades?${text}`, { redirect: "error" });
      if (mine !== turn) return;
      if (answer.status === 401) return window.location.reload();
      if (!answer.ok) {
        const problem = await answer.json().catch(() => ({}));
        say(answer.status === 503 ? "The records are not to be had now; trying again." : `Not possible: ${problem.detail || answer.status}`);
        if (answer.status === 503) again(mine);
        return;
      }
      take(text, await answer.json());
    } catch {
      if (mine !== turn) return;
      say("The desk does not answer; trying again.");
      again(mine);
    } finally {
      if (mine === turn) region.removeAttribute("aria-busy");
    }
  }

  const again = (mine) => setTimeout(() => { if (mine === turn) read(address()); }, 2000);
  const say = (text) => { const node = one("[data-count]"); if (node.textContent !== text) node.textContent = text; };

  function take(query, found) {
    const moved = shown.run !== found.run;
    shown = { query, ...found };
    say(found.count);
    one("[data-rows]").replaceChildren(...(found.rows.length ? found.rows.map(row) : [nothing()]));
    if (left && document.activeElement === document.body) back();
    left = null;
    one(".desk-rows").classList.toggle("desk-one-run", Boolean(found.run));
    const pages = { first: found.previous || address().has("cursor"), previous: found.previous, next: found.next, last: found.last };
    for (const [name, there] of Object.entries(pages)) one(`[data-page=${name}]`).disabled = !there;
    for (const link of all("[data-export]"))
      link.href = `/api/export?format=${link.dataset.export}&${found.export}`;
    one("[data-rows]").closest(".desk-scroll").scrollTop = 0;
    if (moved && one("[data-denied]").open) readDenied();
  }

  function element(tag, text, className) {
    const node = document.createElement(tag);
    if (text) node.textContent = text;
    if (className) node.className = className;
    return node;
  }

  function nothing() {
    const line = element("tr");
    const cell = element("td", "No trades to show.", "desk-minor");
    cell.colSpan = RUN + 1;
    line.append(cell);
    return line;
  }

  function row(found) {
    const line = element("tr");
    const key = `${found.run}/${found.trade}`;
    line.dataset.open = key;
    found.cells.forEach((cell, place) => {
      const node = element(place ? "td" : "th", place ? cell : "", NUMBERS.includes(place) ? "desk-number" : "");
      if (!place) {
        node.scope = "row";
        const link = element("a", cell);
        const query = address();
        query.set("open", key);
        link.href = `?${query}`;
        link.setAttribute("aria-haspopup", "dialog");
        node.append(link);
      }
      if (SIGNED.includes(place)) { node.classList.add("desk-signed"); node.dataset.is = found.sign; }
      line.append(node);
    });
    return line;
  }

  // --- a trade's story ---
  async function showStory(key) {
    const dialog = one("[data-story]");
    if (!key) { opened = null; if (dialog.open) dialog.close(); return; }
    if (opened === key && dialog.open) return;
    opened = key;
    one("#story-title").textContent = "Reading …";
    one("[data-story-body]").replaceChildren();
    if (!dialog.open) dialog.showModal();
    const place = key.lastIndexOf("/");
    const path = `${encodeURIComponent(key.slice(0, place))}/${encodeURIComponent(key.slice(place + 1))}`;
    try {
      const answer = await fetch(`/console/data/trade/${path}`, { redirect: "error" });
      const found = await answer.json();
      if (opened !== key) return;
      one("#story-title").textContent = answer.ok ? found.title : "This trade is not to be had";
      if (answer.ok) one("[data-story-body]").innerHTML = found.html; // made and escaped by the desk
      else one("[data-story-body]").textContent = found.detail || "";
    } catch {
      if (opened === key) one("#story-title").textContent = "The desk does not answer";
    }
  }

  function closed() {
    left = address().get("open");
    if (!left) return;
    go({ open: "" }, { keepPage: true });
    back();
  }

  // To the trade whose story was closed; after a reload its row may be still to come.
  function back() {
    const line = [...all("tr[data-open]")].find((line) => line.dataset.open === left);
    if (!line) return;
    left = null;
    line.querySelector("a").focus();
  }

  // --- refused orders ---
  async function readDenied() {
    const place = one("[data-denied-rows]");
    const run = address().get("run");
    try {
      const answer = await fetch(`/console/data/denied${run ? `?run=${encodeURIComponent(run)}` : ""}`, { redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      place.innerHTML = (await answer.json()).html; // made and escaped by the desk
    } catch {
      place.textContent = "Not to be had now.";
    }
  }

  // --- what a person does ---
  function clicked(event) {
    const sort = event.target.closest(".desk-sort");
    if (sort) {
      const name = sort.closest("th").dataset.sort;
      const [now, order] = sorted(address());
      const first = FIRST_FALLING.includes(name) ? "descending" : "ascending";
      const other = order === "descending" ? "ascending" : "descending";
      return go({ sort: name, order: now === name ? other : first });
    }
    const page = event.target.closest("[data-page]");
    if (page) return go({ cursor: page.dataset.page === "first" ? "" : shown[page.dataset.page] });
    if (event.target.closest("[data-close]")) return one("[data-story]").close();
    if (event.target === one("[data-story]")) return one("[data-story]").close(); // beside it
    const line = event.target.closest("tr[data-open]");
    if (!line || event.ctrlKey || event.metaKey || event.shiftKey || window.getSelection().toString()) return;
    event.preventDefault();
    go({ open: line.dataset.open }, { keepPage: true });
  }

  function begin() {
    const form = one("[data-filters]");
    if (!form || !one("[data-story]") || !one("[data-denied]")) return setTimeout(begin, 50); // the page is made in the browser
    form.addEventListener("change", (event) => { if (event.target.checkValidity()) go({ [event.target.name]: event.target.value }); });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => go(Object.fromEntries(FILTERS.map((name) => [name, ""]))));
    one("[data-story]").addEventListener("close", closed);
    one("[data-denied]").addEventListener("toggle", (event) => { if (event.target.open) readDenied(); });
    document.addEventListener("click", clicked);
    window.addEventListener("popstate", show);
    window.desk?.on((message) => {
      // New trades belong on a first page by time; any other page stays as it is.
      const query = address();
      if ("trades" in message && !query.has("cursor") && shown.query !== undefined) { shown.query = undefined; read(query); }
    });
    show();
  }
  begin();
})();
