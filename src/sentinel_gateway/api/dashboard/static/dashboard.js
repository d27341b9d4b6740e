// What moves. Frames say what stands where, by the names that elements carry; all of it is put there as text, never as HTML.
"use strict";
(() => {
  const POLL = 5000; // milliseconds, as long as there is no stream
  const page = document.body.dataset.moves;
  const state = document.getElementById("live");

  // --- frames ---

  const each = (name, frame, put) => {
    for (const element of document.querySelectorAll(`[data-${name}]`)) {
      const value = frame[element.dataset[name]];
      if (value !== undefined) put(element, value);
    }
  };

  const cell = (tag, [kind, text, leads]) => { // how it looks, what it says, where it leads
    const made = document.createElement(tag);
    if (tag === "td" && !kind.startsWith("chip")) {
      if (kind) made.className = kind;
      if (leads && leads.startsWith("/dashboard/")) {
        const link = document.createElement("a");
        link.href = leads;
        link.textContent = text;
        made.append(link);
      } else made.textContent = text;
      return made;
    }
    const inner = document.createElement("span");
    inner.className = tag === "li" ? `state ${kind}` : kind;
    inner.textContent = text;
    made.append(inner);
    return made;
  };

  const fill = (holder, rows) => {
    const said = JSON.stringify(rows);
    if (holder.said === said) return;
    holder.said = said;
    holder.replaceChildren(...rows.map((row) => {
      if (holder.tagName === "UL") return cell("li", row[0]);
      const line = document.createElement("tr");
      line.append(...row.map((one) => cell("td", one)));
      return line;
    }));
  };

  const show = (frame) => {
    each("text", frame.text, (element, text) => { if (element.textContent !== text) element.textContent = text; });
    each("attributes", frame.attributes, (element, values) => {
      for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
    });
    each("show", frame.shown, (element, shown) => { element.hidden = !shown; });
    each("rows", frame.rows, fill);
  };

  // --- where they come from: a stream, or else asking every 5 s; nothing while nobody sees the page ---

  let stream = null;
  let heard = false; // has it said anything? What lies between may let one be opened, and keep for itself what comes
  let watching = 0;

  const say = (kind, text) => {
    state.hidden = false;
    state.className = `live ${kind}`;
    const words = state.querySelector(".live-text");
    if (words.textContent !== text) words.textContent = text;
  };

  const stop = () => {
    if (stream) stream.close();
    stream = null;
    heard = false;
    clearInterval(watching);
  };

  const leave = () => {
    stop();
    say("bad", "Signed out");
    location.assign(`/dashboard/sign-in?to=${encodeURIComponent(location.pathname)}`);
  };

  const listen = () => {
    stream = new EventSource(`/dashboard/events?page=${page}`);
    stream.onmessage = (event) => { heard = true; show(JSON.parse(event.data)); say("good", "Live"); };
    stream.addEventListener("signed-out", leave);
    stream.onerror = () => {
      if (heard) say("warn", "Connecting…");
      heard = false;
      if (stream && stream.readyState === EventSource.CLOSED) stream = null; // refused: it won't try again by itself
    };
  };

  const poll = async () => { // until a stream tells
    if (heard) return;
    if (!stream && window.EventSource) listen();
    try {
      const signal = AbortSignal.timeout(POLL); // the next one is due
      const answer = await fetch(`/dashboard/frame?page=${page}`, { credentials: "same-origin", signal });
      if (answer.status === 401 || answer.status === 403) return leave();
      if (!answer.ok) throw new Error(String(answer.status));
      const frame = await answer.json();
      if (heard) return;
      show(frame);
      say("warn", "Every 5 s");
    } catch {
      if (!heard) say("bad", "The gateway does not answer");
    }
  };

  const start = () => {
    stop();
    if (window.EventSource) listen(); else poll();
    watching = setInterval(poll, POLL);
  };

  if (page) {
    document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else start(); });
    if (!document.hidden) start();
  }

  // What is loaded anew every few seconds waits as well until somebody sees it.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.target.matches("[hx-trigger^=every]")) event.preventDefault();
  });

  // --- charts ---

  const probe = document.createElement("span"); // canvases know no variables: it tells what one comes to in the theme of now
  probe.hidden = true;
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const faint = (name) => {
    probe.style.color = `color-mix(in srgb, var(--${name}) 16%, transparent)`;
    return getComputedStyle(probe).color;
  };

  const dollars = (value) => {
    if (value == null) return "–";
    if (value === 0) return "$0";
    const size = Math.abs(value);
    if (size >= 1) return `$${value.toLocaleString("en", { maximumFractionDigits: 2 })}`;
    return `$${Number(value.toPrecision(2)).toFixed(Math.min(9, Math.max(2, 1 - Math.floor(Math.log10(size)))))}`;
  };

  const whole = (number) => Math.abs(number - Math.round(number)) < 1e-6 * number;
  const marks = (_, values, axis, space, step) => { // of an axis: all with as many digits as the step between them takes
    let digits = step < 1 ? 2 : 0;
    while (digits < 9 && !whole(step * 10 ** digits)) digits += 1;
    const shown = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return values.map((value) => (value ? `$${value.toLocaleString("en", shown)}` : "$0"));
  };

  const two = (number) => String(number).padStart(2, "0");
  const moment = (at, long) => { // UTC, as all of the page
    const date = new Date(at * 1000);
    const day = `${two(date.getUTCDate())}/${two(date.getUTCMonth() + 1)}`;
    const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
    return long ? `${day} ${time}` : time === "00:00" ? day : time;
  };

  const draw = (holder) => {
    if (!window.uPlot) return;
    const told = JSON.parse(holder.dataset.chart);
    if (holder.plot) holder.plot.destroy();
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const series = (label, name) => ({
      label, stroke: colour(name), fill: faint(name), width: 2, points: { show: told.at.length < 2 },
      value: (_, value) => dollars(value),
    });
    holder.plot = new uPlot({
      width: Math.max(240, holder.clientWidth),
      height: 220,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      cursor: { points: { size: 7 } },
      legend: { live: true },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((at) => moment(at, false)) }, { ...axis, size: 72, values: marks }],
      series: [{ label: "From (UTC)", value: (_, at) => (at == null ? "–" : moment(at, true)) }, series("Saved", "saved"), series("Spent", "spent")],
    }, [told.at, told.saved, told.spent], holder);
  };

  const charts = () => document.querySelectorAll("[data-chart]");
  const drawAll = () => charts().forEach(draw);
  let resizing = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(() => charts().forEach((holder) => {
      if (holder.plot) holder.plot.setSize({ width: Math.max(240, holder.clientWidth), height: 220 });
    }));
  });
  document.addEventListener("htmx:load", (event) => event.detail.elt.querySelectorAll("[data-chart]").forEach(draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();

  // --- a part that could not be loaded: what is there stays, with why it is old, until the next try takes its place ---

  const tellFailed = (part, why) => {
    let words = part.querySelector(".loading, [data-failed]");
    if (!words) {
      words = document.createElement("p");
      words.className = "notice bad";
      words.dataset.failed = "";
      words.setAttribute("role", "alert");
      part.prepend(words);
    }
    if (words.textContent !== why) words.textContent = why;
  };
  for (const failed of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(failed, ({ detail }) => tellFailed(detail.target, "The gateway does not answer: load the page anew."));
  }
  document.addEventListener("htmx:responseError", ({ detail }) => {
    tellFailed(detail.target, `The gateway could not tell this (${detail.xhr.status}): try again shortly.`);
  });

  // --- the theme: as the system has it, light, dark ---

  const button = document.getElementById("theme");
  const themes = ["", "light", "dark"];
  const names = { "": "as the system has it", light: "light", dark: "dark" };
  const tell = () => button.setAttribute("aria-label", `Theme: ${names[document.documentElement.dataset.theme ?? ""]}`);
  if (button) {
    tell();
    button.addEventListener("click", () => {
      const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "") + 1) % themes.length];
      if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
      try { localStorage.setItem("theme", next); } catch { /* then it lasts as long as the page */ }
      tell();
      drawAll();
    });
  }

  // --- where one is, where the navigation is wider than the window ---

  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // --- what can be copied ---

  document.addEventListener("click", async (event) => {
    const asked = event.target.closest("[data-copy]");
    if (!asked) return;
    const from = document.getElementById(asked.dataset.copy);
    try {
      await navigator.clipboard.writeText(from.textContent);
      asked.textContent = "Copied";
    } catch { // without TLS browsers may not: then it is chosen, to be copied by hand
      getSelection().selectAllChildren(from);
      asked.textContent = "Chosen: press Ctrl+C";
    }
    setTimeout(() => { asked.textContent = "Copy"; }, 3000);
  });
})();
