// Equity with drawdown and trades, and price with its trades. The points live here: wholes are fetched,
// thinned by the server; what is new comes with the "desk" events and is appended.
(() => {
  "use strict";
  const MOST_POINTS = 4000;
  const MOST_BARS = 160;
  const one = (selector) => document.querySelector(selector);
  const color = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  const two = (number) => String(number).padStart(2, "0");
  const chartOf = (name) => {
    const node = one(`[data-chart=${name}]`);
    return node ? window.getElement?.(Number(node.id.slice(1)))?.chart : undefined;
  };
  const when = (at) => {
    const time = new Date(at);
    return `${time.getUTCFullYear()}-${two(time.getUTCMonth() + 1)}-${two(time.getUTCDate())} ` +
      `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
  };
  const money = (value) => value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

  async function fetchJson(path) {
    const answer = await fetch(path, { redirect: "error" });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  }

  // Asks again after a while when the desk is away; a newer question makes an older answer worthless.
  function asker(use) {
    let turn = 0;
    return async function ask(path) {
      const mine = ++turn;
      try {
        const found = await fetchJson(path);
        if (mine === turn) use(found);
      } catch {
        setTimeout(() => { if (mine === turn) ask(path); }, 2000);
      }
    };
  }

  const axis = () => ({
    axisLine: { lineStyle: { color: color("--line") } },
    axisTick: { show: false },
    axisLabel: { color: color("--minor"), hideOverlap: true },
    splitLine: { lineStyle: { color: color("--line"), opacity: 0.6 } },
  });
  const tooltip = () => ({
    trigger: "axis", confine: true, backgroundColor: color("--panel"), borderColor: color("--line"),
    textStyle: { color: color("--ink"), fontSize: 12.5 }, axisPointer: { lineStyle: { color: color("--minor") } },
  });

  // --- equity ---
  const equity = { range: "all", points: [], trades: [], detail: null, complete: true, waiting: null, run: undefined };

  const askEquity = asker((found) => {
    Object.assign(equity, { points: found.points, trades: found.trades, complete: found.complete, run: found.run, detail: null });
    append(equity.waiting || []);
    equity.waiting = null;
    drawEquity(true);
  });
  const askDetail = asker((found) => {
    equity.detail = found;
    drawEquity(false);
  });

  function loadEquity() {
    equity.waiting = [];
    askEquity(`/console/data/equity?range=${equity.range}`);
  }

  function append(points) {
    const known = equity.points.length ? equity.points[equity.points.length - 1][0] : 0;
    equity.points.push(...points.filter((point) => point[0] > known));
    const length = { day: 864e5, week: 6048e5, month: 2592e6 }[equity.range];
    if (length && equity.points.length) {
      const from = equity.points[equity.points.length - 1][0] - length;
      while (equity.points[0][0] < from) equity.points.shift();
      equity.trades = equity.trades.filter((trade) => trade[0] >= from);
    }
    if (equity.points.length > MOST_POINTS) loadEquity();
  }

  function shownPoints() {
    const fine = equity.detail?.points;
    if (!fine?.length) return equity.points;
    const [from, to] = [fine[0][0], fine[fine.length - 1][0]];
    return [...equity.points.filter((p) => p[0] < from), ...fine, ...equity.points.filter((p) => p[0] > to)];
  }

  function drawEquity(whole) {
    const chart = chartOf("equity");
    if (!chart) return void setTimeout(() => drawEquity(whole), 100);
    const points = shownPoints();
    const up = color("--up"), down = color("--down");
    const series = [
      { data: points.map((p) => [p[0], p[1]]) },
      { data: equity.trades.map((t) => ({ value: [t[0], t[1], t[2]], itemStyle: { color: t[2] > 0 ? up : t[2] < 0 ? down : color("--minor") } })) },
      { data: points.map((p) => [p[0], -p[2]]) },
    ];
    if (!whole) return chart.setOption({ series }, { lazyUpdate: true });
    if (!chart.deskZoom) {
      chart.deskZoom = true;
      chart.on("datazoom", () => { clearTimeout(equity.timer); equity.timer = setTimeout(zoomed, 300); });
    }
    const accent = color("--accent");
    const time = { type: "time", ...axis(), splitLine: { show: false }, axisPointer: { label: { show: false } } };
    chart.setOption({
      animation: false, useUTC: true,
      grid: [{ left: 64, right: 14, top: 12, bottom: 128 }, { left: 64, right: 14, bottom: 54, height: 56 }],
      axisPointer: { link: [{ xAxisIndex: "all" }] },
      tooltip: { ...tooltip(), formatter: describeEquity },
      xAxis: [{ ...time, axisLabel: { show: false } }, { ...time, gridIndex: 1 }],
      yAxis: [
        { scale: true, ...axis(), splitNumber: 4, min: (all) => all.max - all.min < 1 ? all.min - 5 : null,
          max: (all) => all.max - all.min < 1 ? all.max + 5 : null },
        { gridIndex: 1, max: 0, splitNumber: 2, ...axis() },
      ],
      dataZoom: [
        { type: "inside", xAxisIndex: [0, 1], zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, filterMode: "none" },
        { type: "slider", xAxisIndex: [0, 1], height: 18, bottom: 6, filterMode: "none", showDetail: false,
          borderColor: color("--line"), fillerColor: color("--accent-tint"), handleStyle: { color: accent },
          dataBackground: { lineStyle: { opacity: 0 }, areaStyle: { opacity: 0 } },
          selectedDataBackground: { lineStyle: { opacity: 0 }, areaStyle: { opacity: 0 } } },
      ],
      series: [
        { name: "Equity", type: "line", showSymbol: false, lineStyle: { width: 1.6, color: accent }, itemStyle: { color: accent }, ...series[0] },
        { name: "Trades", type: "scatter", symbol: "circle", symbolSize: 5, z: 3, ...series[1] },
        { name: "Drawdown", type: "line", xAxisIndex: 1, yAxisIndex: 1, showSymbol: false, lineStyle: { width: 1, color: down },
          itemStyle: { color: down }, areaStyle: { color: down, opacity: 0.18 }, ...series[2] },
      ],
    }, { replaceMerge: ["series"] });
  }

  function describeEquity(items) {
    const lines = [when(items[0].axisValue)];
    for (const item of items) {
      if (item.seriesName === "Trades") lines.push(`Trade closed: ${money(item.value[2])}`);
      else lines.push(`${item.seriesName}: ${money(Math.abs(item.value[1]))}`);
    }
    return lines.join("<br>");
  }

  function zoomed() {
    const chart = chartOf("equity");
    const zoom = chart?.getOption().dataZoom?.[0];
    if (!zoom || equity.complete) return;
    if (zoom.end - zoom.start > 95) { equity.detail = null; return drawEquity(false); }
    askDetail(`/console/data/equity?start=${Math.floor(zoom.startValue)}&end=${Math.ceil(zoom.endValue)}`);
  }

  // --- price ---
  const price = { bars: [], trades: [], instrument: null, waiting: null };

  const askPrice = asker((found) => {
    Object.assign(price, { bars: found.bars, trades: found.trades, instrument: found.instrument });
    appendBars(price.waiting || []);
    price.waiting = null;
    drawPrice(true);
  });

  function loadPrice() {
    price.waiting = price.waiting || [];
    askPrice("/console/data/price");
  }

  function appendBars(bars) {
    const known = price.bars.length ? price.bars[price.bars.length - 1][0] : 0;
    price.bars.push(...bars.filter((bar) => bar[0] > known));
    price.bars.splice(0, Math.max(0, price.bars.length - MOST_BARS));
  }

  function barAt(at) {
    const place = price.bars.findIndex((bar) => bar[0] >= at);
    return place === 0 && price.bars[0][0] > at ? -1 : place;
  }

  function level(name, value, tint) {
    return { yAxis: value, lineStyle: { color: tint, type: name === "entry" ? "solid" : "dashed", width: 1.2 },
      label: { formatter: `${name} ${value}`, color: tint, position: "insideStartTop", fontSize: 11.5 } };
  }

  function priceSeries() {
    const up = color("--up"), down = color("--down"), ink = color("--ink");
    const mark = (at, value, side, entry) => {
      const place = barAt(at);
      if (place < 0) return null;
      const buys = (side === "long") === entry;
      return { value: [place, value], symbolRotate: buys ? 0 : 180, itemStyle: { color: entry ? ink : color("--accent") },
        name: entry ? `entry ${side}` : `exit ${side}` };
    };
    const marks = price.trades.flatMap((t) => [mark(t.entered, t.entry, t.side, true), mark(t.left, t.exit, t.side, false)]);
    const open = window.desk.state.position;
    const lines = [];
    if (open && open.instrument === price.instrument) {
      marks.push(mark(open.entered, open.entry, open.side, true));
      lines.push(level("entry", open.entry, ink));
      if (open.stop !== null) lines.push(level("stop", open.stop, down));
      if (open.target !== null) lines.push(level("target", open.target, up));
    }
    return [
      { data: price.bars.map((bar) => bar.slice(1)), markLine: { data: lines } },
      { data: marks.filter(Boolean) },
    ];
  }

  function drawPrice(whole) {
    const chart = chartOf("price");
    if (!chart) return void setTimeout(() => drawPrice(whole), 100);
    const series = priceSeries();
    const xAxis = { data: price.bars.map((bar) => when(bar[0]).slice(5)) };
    if (!whole) return chart.setOption({ xAxis, series }, { lazyUpdate: true });
    const name = one("[data-price-instrument]");
    if (name) name.textContent = price.instrument || "";
    const up = color("--up"), down = color("--down");
    chart.setOption({
      animation: false, useUTC: true, grid: { left: 64, right: 14, top: 12, bottom: 26 },
      tooltip: { ...tooltip(), formatter: describePrice },
      xAxis: { type: "category", ...axis(), splitLine: { show: false }, ...xAxis },
      yAxis: { scale: true, ...axis(), splitNumber: 4 },
      series: [
        { name: "Price", type: "candlestick", itemStyle: { color: up, color0: down, borderColor: up, borderColor0: down },
          ...series[0], markLine: { symbol: "none", animation: false, silent: true, precision: 8, ...series[0].markLine } },
        { name: "Trades", type: "scatter", symbol: "triangle", symbolSize: 10, z: 5, ...series[1] },
      ],
    }, { replaceMerge: ["series"] });
  }

  function describePrice(items) {
    return items.map((item) => {
      if (item.seriesName === "Trades") return `${item.name}: ${item.value[1]}`;
      const [, open, close, low, high] = item.value;
      return `${item.axisValue}<br>open ${open} · high ${high} · low ${low} · close ${close}`;
    }).join("<br>");
  }

  // --- what is new ---
  const due = {};
  function soon(name, draw) { // a drawing now and then: several messages may come in a second
    due[name] ||= setTimeout(() => { due[name] = 0; draw(); }, 400);
  }

  function hear(message) {
    if (!one("[data-chart=equity]")) return;
    if ("run" in message && message.run !== equity.run && equity.run !== undefined) { equity.run = message.run; loadEquity(); loadPrice(); return; }
    if ("trades" in message) {
      const known = new Set(equity.trades.map((trade) => trade[3]));
      const fresh = message.trades.filter((t) => t.run === equity.run && !known.has(t.seq)).reverse();
      const from = equity.points.length ? equity.points[0][0] : 0;
      equity.trades.push(...fresh.filter((t) => t.at >= from).map((t) => [t.at, t.balance, t.pnl, t.seq]));
      if (fresh.length) loadPrice();
    }
    if (message.points) {
      if (equity.waiting) equity.waiting.push(...message.points);
      else append(message.points);
    }
    if (message.bars) {
      if (price.waiting) price.waiting.push(...message.bars);
      else appendBars(message.bars);
    }
    if (equity.waiting === null && (message.points || message.trades)) soon("equity", () => drawEquity(false));
    if (price.waiting === null && (message.bars || "position" in message)) soon("price", () => drawPrice(false));
  }

  function begin() {
    if (!one("[data-chart=equity]")) return void setTimeout(begin, 50);
    loadEquity();
    loadPrice();
    let dark = document.body.classList.contains("body--dark");
    new MutationObserver(() => { // the class changes for other reasons too
      if (dark === document.body.classList.contains("body--dark")) return;
      dark = !dark;
      drawEquity(true);
      drawPrice(true);
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-range]");
    if (!button) return;
    equity.range = button.dataset.range;
    for (const other of document.querySelectorAll("[data-range]")) other.setAttribute("aria-pressed", String(other === button));
    chartOf("equity")?.dispatchAction({ type: "dataZoom", start: 0, end: 100 });
    loadEquity();
  });

  window.desk.on(hear);
  begin();
})();
