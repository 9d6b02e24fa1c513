// What the pages do by themselves: refresh while visible, draw charts, ask before an action. No inline code anywhere.
"use strict";
(() => {
  const root = document.documentElement;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // -- refreshing ------------------------------------------------------------------------------------------------
  // The part with id "live" is fetched again every data-refresh seconds, never while the page is hidden or a dialog is
  // open, or the reader has paused it (in this tab, until pressed again). On an error the last good values stay, greyed, with the reason.
  let due = 0, paused = sessionStorage.getItem("paused") === "1";
  const showPaused = () => document.querySelector("[data-pause]")?.setAttribute("aria-pressed", String(paused));
  const pause = () => { paused = !paused; sessionStorage.setItem("paused", paused ? "1" : "0"); showPaused(); };
  const choosing = () => document.activeElement?.matches("#live select"); // its list would close
  const live = () => document.getElementById("live");
  const schedule = () => { const l = live(); due = l && l.dataset.refresh ? Date.now() + 1000 * Number(l.dataset.refresh) : 0; };
  const refresh = () => { if (live()) { schedule(); htmx.trigger(live(), "refresh"); } };
  setInterval(() => {
    if (due && Date.now() >= due && !paused && !document.hidden && !document.querySelector("dialog[open]") && !choosing()) { refresh(); }
  }, 500);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused && due && Date.now() >= due) { refresh(); } });
  document.addEventListener("htmx:beforeSwap", (event) => { held = event.detail.target === live() ? hold() : null; });
  document.addEventListener("htmx:afterSwap", () => { schedule(); drawAll(); if (held) { giveBack(held); held = null; } });
  // What a reader holds outlives the swap: focus and what is typed there, opened details, how far a table is pushed aside.
  let held = null;
  const inside = (what) => [...live().querySelectorAll(what)];
  const alike = (e) => inside(e.tagName).filter((o) => ["href", "name", "data-action", "data-body", "data-pick"].every((n) => o.getAttribute(n) === e.getAttribute(n)));
  const hold = () => {
    const e = document.activeElement, mine = live().contains(e);
    return {
      focus: mine && e, at: mine && alike(e).indexOf(e), caret: mine && e.matches("input") && e.selectionStart,
      open: inside("details").map((d) => d.open), left: inside(".scroll").map((s) => s.scrollLeft),
    };
  };
  const giveBack = ({ focus, at, caret, open, left }) => {
    inside("details").forEach((d, n) => { d.open = open[n] ?? d.open; });
    inside(".scroll").forEach((s, n) => { s.scrollLeft = left[n] || 0; });
    const e = focus && alike(focus)[at];
    if (!e) { return; }
    e.focus({ preventScroll: true });
    if (typeof caret === "number") { e.value = focus.value; e.setSelectionRange(caret, caret); }
  };
  const failed = (event) => {
    const l = live();
    if (!l || event.detail.target !== l) { return; }
    l.classList.add("stale");
    const box = document.getElementById("refresh-problem");
    if (box) { box.hidden = false; }
  };
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:timeout", failed);
  document.addEventListener("htmx:afterOnLoad", () => { const box = document.getElementById("refresh-problem"); if (box) { box.hidden = true; } });

  // -- charts ----------------------------------------------------------------------------------------------------
  // <div class="chart" data-chart='{"x":[seconds],"series":[{"label","values","color"}],"unit":"%","max":100,…}'>
  // null values are gaps. "marks" are [from, to] seconds that are unfinished, estimated or unknown (hatched), "blind" those
  // in which this monitor did not look (hatched the other way), "restated" instants whose figures were corrected later.
  const charts = new Map();
  const stripes = (u, spans, colour, lean) => {
    const ctx = u.ctx, gap = 8 * devicePixelRatio; ctx.save(); ctx.strokeStyle = colour; ctx.lineWidth = devicePixelRatio;
    const { top, height, left, width } = u.bbox;
    for (const [a, b] of spans) {
      const x0 = Math.max(left, u.valToPos(a, "x", true)), x1 = Math.min(left + width, u.valToPos(b, "x", true));
      if (x1 <= x0) { continue; }
      ctx.save(); ctx.beginPath(); ctx.rect(x0, top, Math.max(x1 - x0, 3), height); ctx.clip(); ctx.beginPath();
      for (let x = x0 - height; x < x1 + height; x += gap) { ctx.moveTo(x, top + height); ctx.lineTo(x + lean * height, top); }
      ctx.stroke(); ctx.restore();
    }
    ctx.restore();
  };
  const flags = (u, instants) => {
    const ctx = u.ctx, size = 5 * devicePixelRatio; ctx.save(); ctx.fillStyle = css("--warn");
    for (const at of instants) {
      const x = u.valToPos(at, "x", true), y = u.bbox.top;
      ctx.beginPath(); ctx.moveTo(x - size, y); ctx.lineTo(x + size, y); ctx.lineTo(x, y + 1.6 * size); ctx.fill();
    }
    ctx.restore();
  };
  // The Swedish locale writes ISO dates: 2026-03-01 14:05:00, the same in every language and never with a.m. or p.m.
  const stamp = (seconds, zone) => new Date(seconds * 1e3).toLocaleString("sv", { timeZone: zone });
  const ticks = (zone) => (u, at, _axis, _space, step) => at.map((v, n) => {
    const text = stamp(v, zone), day = text.slice(5, 10), clock = text.slice(11, 16);
    if (step >= 86400) { return day; }
    return n === 0 || stamp(at[n - 1], zone).slice(5, 10) !== day ? clock + "\n" + day : clock;
  });
  const short = (v) => {
    const size = Math.abs(v);
    return size >= 1e9 ? v / 1e9 + " G" : size >= 1e6 ? v / 1e6 + " M" : size >= 1e4 ? v / 1e3 + " k" : String(v);
  };
  // Distances of the lines of a time axis, ms: 1-2-5 below a minute, then what clocks have.
  const spans = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 12e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 4320e5, 8640e5];
  // Milliseconds and seconds in the unit a person would say.
  const span = (ms) => {
    const [size, unit] = ms < 1e3 ? [1, "ms"] : ms < 6e5 ? [1e3, "s"] : ms < 72e5 ? [6e4, "min"] : [36e5, "h"];
    return Number((ms / size).toPrecision(4)) + " " + unit;
  };
  const said = (v, unit) => {
    if (v === null || v === undefined) { return "–"; }
    if (unit === "ms") { return span(v); }
    if (unit === "s") { return span(1000 * v); }
    return v.toLocaleString(root.lang, { maximumFractionDigits: 2 }) + (unit === "%" ? "%" : unit ? " " + unit : "");
  };
  // A value between two gaps makes no line: it is shown as a point.
  const alone = (u, n, show) => {
    if (show) { return null; }
    const y = u.data[n], found = [];
    for (let i = 0; i < y.length; i++) { if (y[i] != null && y[i - 1] == null && y[i + 1] == null) { found.push(i); } }
    return found.length ? found : null;
  };
  const draw = (box) => {
    const text = box.dataset.chart;
    const known = charts.get(box);
    if (known && known.text === text && known.theme === css("--bg")) { return; }
    if (known) { known.plot.destroy(); charts.delete(box); }
    const spec = JSON.parse(text), zone = spec.zone || "UTC";
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line") } };
    const first = { label: spec.ticks ? root.dataset.binLabel : root.dataset.timeLabel, value: (u, v) => (v === null ? "–" : spec.ticks ? spec.ticks[v] ?? "–" : stamp(v, zone).slice(0, spec.day ? 10 : 16)) };
    const series = [first].concat(spec.series.map((s) => ({
      label: s.label, stroke: css(s.color), width: 1.75, spanGaps: false, dash: s.dash, scale: s.scale || "y",
      points: { show: !spec.bars && !s.dash && spec.x.length < 60, size: 5, filter: spec.bars ? undefined : alone },
      fill: spec.bars ? css(s.color) : undefined, paths: spec.bars ? uPlot.paths.bars({ size: [0.7, 60] }) : undefined,
      value: (u, v) => said(v, s.unit || spec.unit),
    })));
    const bounds = (max) => (max === undefined
      ? (u, low, high) => [Math.min(0, low || 0), high === null || high <= 0 ? 1 : high * 1.08] : [0, max]);
    const label = (unit) => (u, at) => at.map((v) => (unit === "ms" ? span(v) : unit === "s" ? span(1000 * v) : short(v) + (unit === "%" ? "%" : unit ? " " + unit : "")));
    const xAxis = Object.assign({}, axis, { values: spec.ticks ? (u, at) => at.map((v) => spec.ticks[v] ?? "") : ticks(zone), space: spec.ticks ? 40 : 56, size: 44 });
    if (spec.day) { xAxis.incrs = [1, 2, 5, 7, 14, 30, 90].map((days) => 86400 * days); }
    const steps = (unit) => (unit === "ms" || unit === "s" ? { incrs: spans.map((ms) => (unit === "s" ? ms / 1000 : ms)) } : {});
    const axes = [xAxis, Object.assign({ size: 62, values: label(spec.unit) }, steps(spec.unit), axis)];
    const second = spec.series.find((s) => s.scale);
    const scales = { x: { time: !spec.ticks }, y: { range: bounds(spec.max) } };
    if (spec.step) { scales.x.range = (u, low, high) => [low, high + spec.step]; }
    if (spec.ticks) { scales.x.range = [-0.6, spec.ticks.length - 0.4]; }
    if (second) {
      scales[second.scale] = { range: bounds() };
      axes.push(Object.assign({}, axis, { size: 62, side: 1, scale: second.scale, values: label(second.unit), grid: { show: false } }, steps(second.unit)));
    }
    const plot = new uPlot({
      width: Math.max(240, box.clientWidth), height: 230, cursor: { drag: { x: false, y: false } },
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), zone), scales, axes, series, legend: { markers: { width: 2 } },
      hooks: {
        drawClear: [(u) => { stripes(u, spec.marks || [], css("--hatch"), 1); stripes(u, spec.blind || [], css("--bad"), -1); }],
        draw: [(u) => flags(u, spec.restated || [])],
        ready: [(u) => { const newest = () => u.setLegend({ idx: spec.x.length - 1 }); newest(); u.over.addEventListener("mouseleave", newest); }],
      },
    }, [spec.x].concat(spec.series.map((s) => s.values)), box);
    charts.set(box, { plot, text, theme: css("--bg") });
  };
  const drawAll = () => {
    for (const box of charts.keys()) { if (!box.isConnected) { charts.get(box).plot.destroy(); charts.delete(box); } }
    document.querySelectorAll(".chart[data-chart]").forEach(draw);
  };
  addEventListener("resize", () => charts.forEach((c, box) => c.plot.setSize({ width: Math.max(240, box.clientWidth), height: 230 })));

  // -- switches --------------------------------------------------------------------------------------------------
  const remember = (name, value) => { document.cookie = name + "=" + value + ";path=/;max-age=31536000;samesite=strict"; };
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.dataset.cookie) {
      remember(box.dataset.cookie, encodeURIComponent(box.value));
      if (box.dataset.cookie === "mp_theme") { root.dataset.theme = box.value; drawAll(); } else { location.reload(); }
    } else if (box.closest("form[data-auto]")) { box.form.requestSubmit(); }
  });
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-action],[data-refresh-now],[data-pause],[data-close]");
    if (!target) { return; }
    if (target.dataset.close !== undefined) { target.closest("dialog").close(); }
    if (target.dataset.refreshNow !== undefined) { refresh(); }
    if (target.dataset.pause !== undefined) { pause(); }
    if (target.dataset.action) { if (target.ariaDisabled === "true") { say(target.title); } else { act(target); } } // why not
  });

  // -- picking several rows --------------------------------------------------------------------------------------
  // <input type="checkbox" data-pick="source/id">; what is picked survives a refresh, the bar [data-picked] shows while any is.
  const picks = new Set();
  const picksBySource = () => {
    const found = {};
    for (const pick of picks) { const at = pick.indexOf("/"); (found[pick.slice(0, at)] ||= []).push(pick.slice(at + 1)); }
    return Object.entries(found);
  };
  const showPicks = () => {
    const boxes = [...document.querySelectorAll("[data-pick]")], bar = document.querySelector("[data-picked]");
    for (const box of boxes) { box.checked = picks.has(box.dataset.pick); }
    const all = document.querySelector("[data-pick-all]");
    if (all) { all.checked = boxes.length > 0 && boxes.every((box) => box.checked); }
    if (bar) { bar.hidden = picks.size === 0; bar.querySelector("[data-picked-count]").textContent = picks.size; }
  };
  document.addEventListener("change", (event) => {
    const { pick, pickAll } = event.target.dataset;
    if (pick === undefined && pickAll === undefined) { return; }
    const boxes = pick === undefined ? document.querySelectorAll("[data-pick]") : [event.target];
    for (const box of boxes) { picks[event.target.checked ? "add" : "delete"](box.dataset.pick); }
    showPicks();
  });
  document.addEventListener("htmx:afterSwap", showPicks);

  // -- actions ---------------------------------------------------------------------------------------------------
  // <button data-action="POST /api/v1/…" data-confirm="…" data-body='{}' data-note="note" data-type-in="word">
  // asks in a dialog, sends JSON, says what came of it, and refreshes. data-picks="name": what is picked is sent as name,
  // in a request per source.
  // data-goto and data-link have {names} of the answer: where to go, or what to offer beside the word that it is done.
  const say = (text, good, link) => {
    const s = document.getElementById("said");
    s.textContent = text;
    if (link) { const a = document.createElement("a"); a.href = link; a.rel = "noopener"; a.textContent = link; s.append(" ", a); }
    s.className = "verdict " + (good === undefined ? "unknown" : good ? "good" : "bad"); s.hidden = false;
  };
  const act = (button) => {
    const dialog = document.getElementById("confirm");
    const note = dialog.querySelector("[name=note]"), typed = dialog.querySelector("[name=typed]"), yes = dialog.querySelector("[value=yes]");
    dialog.querySelector("p").textContent = button.dataset.confirm || button.textContent;
    note.closest("label").hidden = !button.dataset.note; note.value = "";
    typed.closest("label").hidden = !button.dataset.typeIn; typed.value = "";
    dialog.querySelector("[data-word]").textContent = button.dataset.typeIn || "";
    const judge = () => { yes.disabled = Boolean(button.dataset.typeIn) && typed.value !== button.dataset.typeIn; };
    judge(); typed.oninput = judge;
    dialog.onclose = () => { if (dialog.returnValue === "yes") { send(button, note.value); } dialog.returnValue = ""; };
    dialog.showModal();
  };
  const send = async (button, note) => {
    const [method, url] = button.dataset.action.split(" ");
    const body = button.dataset.body ? JSON.parse(button.dataset.body) : {};
    if (button.dataset.note) { body[button.dataset.note] = note; }
    const many = button.dataset.picks, bodies = many ? picksBySource().map(([source, ids]) => ({ ...body, source, [many]: ids })) : [body];
    button.disabled = true;
    say(root.dataset.working);
    try {
      const options = { method, headers: { "Content-Type": "application/json", "Accept-Language": root.lang } };
      const each = [];
      let answer, found;
      for (const one of bodies) {
        if (method !== "DELETE") { options.body = JSON.stringify(one); }
        answer = await fetch(url, options);
        found = await answer.json().catch(() => ({}));
        if (!answer.ok) { break; }
        if (many && found.data) { each.push(...found.data.results); }
      }
      const filled = (text) => (text || "").replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent((found.data || {})[name] || ""));
      const place = filled(button.dataset.goto), link = filled(button.dataset.link);
      if (answer.ok && place && !place.endsWith("/")) { location.assign(place); return; }
      if (each.length) {
        picks.clear(); showPicks();
        const lines = each.map((r) => (r.success ? "✓ " : "✗ ") + r.job_id + (bodies.length > 1 ? " (" + r.source_id + ")" : "") + (r.success ? "" : ": " + r.message));
        if (!answer.ok) { lines.push("✗ " + answer.status + " " + (found.message || "")); }
        say(lines.join("\n"), answer.ok && each.every((r) => r.success));
      } else { say((answer.ok ? button.dataset.done || "✓" : "✗ " + answer.status) + " " + (answer.ok ? "" : found.message || found.error || ""), answer.ok, answer.ok && !link.endsWith("/") && link); }
    } catch (error) { say("✗ " + error.message, false); }
    button.disabled = false;
    refresh();
  };

  // A link /login#token=… signs in; what stands behind # never reaches a server's log.
  const signIn = () => {
    const form = document.querySelector("form[data-token-form]"), found = /^#token=(.+)$/.exec(location.hash);
    if (!form || !found) { return; }
    history.replaceState(null, "", location.pathname + location.search);
    form.elements.token.value = decodeURIComponent(found[1]);
    form.submit();
  };

  // On a narrow screen the navigation scrolls; the page one is on is in sight.
  const showHere = () => {
    const here = document.querySelector("header nav [aria-current]"), nav = here && here.closest("nav");
    if (nav) { nav.scrollLeft = here.offsetLeft - nav.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2; }
  };

  document.addEventListener("DOMContentLoaded", () => { signIn(); showHere(); showPaused(); schedule(); drawAll(); showPicks(); });
})();
