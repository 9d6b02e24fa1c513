// What the pages do by themselves: refresh while visible, draw charts, ask before an action. No inline code anywhere.
"use strict";
(() => {
  const root = document.documentElement;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // -- refreshing ------------------------------------------------------------------------------------------------
  // The part with id "live" is fetched again every data-refresh seconds, never while the page is hidden or a dialog is
  // open. On an error the last good values stay, greyed, with the reason.
  let due = 0;
  const live = () => document.getElementById("live");
  const schedule = () => { const l = live(); due = l && l.dataset.refresh ? Date.now() + 1000 * Number(l.dataset.refresh) : 0; };
  const refresh = () => { if (live()) { schedule(); htmx.trigger(live(), "refresh"); } };
  setInterval(() => {
    if (due && Date.now() >= due && !document.hidden && !document.querySelector("dialog[open]")) { refresh(); }
  }, 500);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && due && Date.now() >= due) { refresh(); } });
  document.addEventListener("htmx:afterSwap", () => { schedule(); drawAll(); });
  const failed = (event) => {
    const l = live();
    if (!l || event.detail.target !== l) { return; }
    l.classList.add("stale");
    const box = document.getElementById("refresh-problem");
    if (box) { box.hidden = false; }
  };
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:afterOnLoad", () => { const box = document.getElementById("refresh-problem"); if (box) { box.hidden = true; } });

  // -- charts ----------------------------------------------------------------------------------------------------
  // <div class="chart" data-chart='{"x":[seconds],"series":[{"label","values","color"}],"unit":"%","max":100,"marks":[…]}'>
  // null values are gaps; "marks" are [from, to] seconds that are hatched: nothing is known or not yet complete there.
  const charts = new Map();
  const hatch = (u, marks) => {
    const ctx = u.ctx; ctx.save(); ctx.strokeStyle = css("--hatch"); ctx.lineWidth = 1;
    const { top, height, left, width } = u.bbox;
    for (const [a, b] of marks) {
      const x0 = Math.max(left, u.valToPos(a, "x", true)), x1 = Math.min(left + width, u.valToPos(b, "x", true));
      if (x1 <= x0) { continue; }
      ctx.save(); ctx.beginPath(); ctx.rect(x0, top, x1 - x0, height); ctx.clip(); ctx.beginPath();
      for (let x = x0 - height; x < x1; x += 8) { ctx.moveTo(x, top + height); ctx.lineTo(x + height, top); }
      ctx.stroke(); ctx.restore();
    }
    ctx.restore();
  };
  const draw = (box) => {
    const text = box.dataset.chart;
    const known = charts.get(box);
    if (known && known.text === text && known.theme === css("--bg")) { return; }
    if (known) { known.plot.destroy(); charts.delete(box); }
    const spec = JSON.parse(text);
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line") } };
    const series = [{}].concat(spec.series.map((s) => ({
      label: s.label, stroke: css(s.color), width: 1.5, spanGaps: false, points: { show: spec.x.length < 60, size: 5 },
      fill: spec.bars ? css(s.color) : undefined, paths: spec.bars ? uPlot.paths.bars({ size: [0.7, 60] }) : undefined,
      value: (u, v) => (v === null || v === undefined ? "–" : v.toLocaleString(root.lang) + (spec.unit ? " " + spec.unit : "")),
    })));
    const bounds = spec.max === undefined ? (u, low, high) => [Math.min(0, low || 0), high === null || high === 0 ? 1 : high * 1.08] : [0, spec.max];
    const xAxis = spec.ticks ? Object.assign({}, axis, { values: (u, at) => at.map((v) => spec.ticks[v] ?? "") }) : axis;
    const plot = new uPlot({
      width: Math.max(240, box.clientWidth), height: 220, cursor: { drag: { x: false, y: false } },
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), spec.zone || "UTC"),
      scales: { x: { time: !spec.ticks }, y: { range: bounds } },
      axes: [xAxis, Object.assign({ size: 62 }, axis)], series,
      hooks: { drawClear: [(u) => hatch(u, spec.marks || [])] },
    }, [spec.x].concat(spec.series.map((s) => s.values)), box);
    charts.set(box, { plot, text, theme: css("--bg") });
  };
  const drawAll = () => {
    for (const box of charts.keys()) { if (!box.isConnected) { charts.get(box).plot.destroy(); charts.delete(box); } }
    document.querySelectorAll(".chart[data-chart]").forEach(draw);
  };
  addEventListener("resize", () => charts.forEach((c, box) => c.plot.setSize({ width: Math.max(240, box.clientWidth), height: 220 })));

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
    const target = event.target.closest("[data-action],[data-refresh-now],[data-close]");
    if (!target) { return; }
    if (target.dataset.close !== undefined) { target.closest("dialog").close(); }
    if (target.dataset.refreshNow !== undefined) { refresh(); }
    if (target.dataset.action) { act(target); }
  });

  // -- actions ---------------------------------------------------------------------------------------------------
  // <button data-action="POST /api/v1/…" data-confirm="…" data-body='{}' data-note="note" data-type-in="word">
  // asks in a dialog, sends JSON, says what came of it, and refreshes.
  const say = (text, good) => { const s = document.getElementById("said"); s.textContent = text; s.className = good ? "verdict good" : "verdict bad"; s.hidden = false; };
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
    button.disabled = true;
    try {
      const options = { method, headers: { "Content-Type": "application/json" } };
      if (method !== "DELETE") { options.body = JSON.stringify(body); }
      const answer = await fetch(url, options);
      const found = await answer.json().catch(() => ({}));
      const place = (button.dataset.goto || "").replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent((found.data || {})[name] || ""));
      if (answer.ok && place && !place.endsWith("/")) { location.assign(place); return; }
      say((answer.ok ? button.dataset.done || "✓" : "✗ " + answer.status) + " " + (answer.ok ? "" : found.message || found.error || ""), answer.ok);
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

  document.addEventListener("DOMContentLoaded", () => { signIn(); schedule(); drawAll(); });
})();
