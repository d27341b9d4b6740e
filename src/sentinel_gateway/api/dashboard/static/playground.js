// The playground: one message to every column's model, answers as they come, each with what the gateway says of it. The
// conversations are in `talk` below and nowhere else; all that anybody says is put into the page as text.
"use strict";
(() => {
  const columns = document.getElementById("columns");
  const form = document.getElementById("ask");
  const field = (id) => document.getElementById(id);
  const most = Number(columns.dataset.most);
  const open = []; // the columns, from left to right

  const make = (tag, kind, text) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // --- how figures are said ---

  const usd = (text) => {
    const value = Number(text);
    if (value === 0) return "$0";
    const digits = value >= 1 ? 2 : Math.min(9, Math.max(2, 1 - Math.floor(Math.log10(value))));
    return `$${value.toFixed(digits)}`;
  };
  const millis = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);
  const TIERS = { memory: "memory", disk: "disk", redis: "Redis", vector: "vectors" };

  // --- an answer, as it comes: whole, or as server-sent events whose comments tell at the end what headers could not ---

  const whole = (answer, heard) => {
    const choice = answer.choices?.[0];
    heard.text = choice?.message?.content ?? "";
    heard.usage = answer.usage;
    heard.model = answer.model;
  };

  const event = (lines, heard) => {
    for (const line of lines) {
      const told = line.match(/^: (x-sentinel-[a-z-]+): (.*)$/);
      if (told) heard.told.set(told[1], told[2]);
      if (line === "data: [DONE]") heard.ended = true;
      if (!line.startsWith("data: ") || heard.ended) continue;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      if (chunk.usage) heard.usage = chunk.usage;
      if (chunk.model) heard.model = chunk.model;
      heard.text += chunk.choices?.[0]?.delta?.content ?? "";
    }
  };

  const listen = async (response, heard, moved) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done && !heard.ended) throw new Error("The connection broke before the answer had ended.");
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) event(block.split("\n"), heard);
      moved();
    }
  };

  const refused = async (response) => {
    if (response.status === 401) location.assign(`/dashboard/sign-in?to=${encodeURIComponent(location.pathname)}`);
    try {
      const told = await response.json();
      return told.error?.message ?? told.error ?? told.detail ?? `The gateway answered ${response.status}.`;
    } catch {
      return `The gateway answered ${response.status}.`;
    }
  };

  // --- what is told of an answer ---

  const told = (heard) => {
    const list = make("ul", "states told");
    const say = (kind, text) => {
      const item = make("li");
      item.append(make("span", kind, text));
      list.append(item);
    };
    const cache = heard.told.get("x-cache");
    const hit = cache === "exact" || cache === "semantic";
    if (cache) {
      const tier = heard.told.get("cache-status")?.match(/sentinel-(\w+);hit/)?.[1];
      say(`chip ${cache}`, tier ? `${cache} · ${TIERS[tier] ?? tier}` : cache);
    }
    if (heard.told.has("x-cache-similarity")) say("state", `similarity ${heard.told.get("x-cache-similarity")}`);
    const attempts = Number(heard.told.get("x-sentinel-attempts") ?? 0);
    if (!hit && attempts) say(`state ${attempts > 1 ? "warn" : ""}`, `${attempts} ${attempts === 1 ? "attempt" : "attempts"}`);
    if (heard.told.has("x-sentinel-cost-usd")) say("state", `cost ${usd(heard.told.get("x-sentinel-cost-usd"))}`);
    if (hit && heard.told.has("x-sentinel-saved-usd")) say("state good", `saved ${usd(heard.told.get("x-sentinel-saved-usd"))}`);
    if (heard.usage) say("state", `${heard.usage.prompt_tokens} + ${heard.usage.completion_tokens} tokens`);
    if (heard.first) say("state", heard.end - heard.first < 5 ? millis(heard.end) : `${millis(heard.first)} to the first, ${millis(heard.end)}`);
    const box = make("div", "about");
    box.append(list);
    const more = make("details", "small");
    more.append(make("summary", "dim", "Why"));
    const target = heard.told.get("x-sentinel-target");
    for (const [name, value] of [["answer of", target && decodeURIComponent(target)], ["cache", heard.told.get("cache-status")], ["explained", heard.told.get("x-cache-explain")]]) {
      if (!value) continue;
      const line = make("p", "dim");
      line.append(`${name} `, make("code", "", value));
      more.append(line);
    }
    const id = heard.told.get("x-sentinel-id");
    if (id) {
      const link = make("a", "", "All of it, a second or two later");
      link.href = `/dashboard/explain?id=${encodeURIComponent(id)}`;
      link.target = "_blank";
      link.rel = "noopener";
      more.append(link);
    }
    box.append(more);
    return box;
  };

  // --- a column: a model, and the conversation with it ---

  class Column {
    constructor(model) {
      this.talk = [];
      this.spent = 0;
      this.saved = 0;
      this.asking = null; // what ends its question
      this.element = field("column").content.firstElementChild.cloneNode(true);
      this.turns = this.element.querySelector(".turns");
      this.input = this.element.querySelector(".model");
      this.input.value = model;
      this.element.querySelector(".close").addEventListener("click", () => close(this));
      columns.append(this.element);
    }

    name(number) {
      this.input.id = `model-${number}`;
      this.element.querySelector("label").htmlFor = this.input.id;
      this.turns.setAttribute("aria-label", `Conversation ${number}`);
      const button = this.element.querySelector(".close");
      button.hidden = open.length === 1;
      button.setAttribute("aria-label", `Take away model ${number}`);
    }

    clear() {
      this.talk = [];
      this.spent = this.saved = 0;
      this.turns.replaceChildren();
      this.tell();
    }

    tell() {
      this.element.querySelector(".column-empty").hidden = this.turns.childElementCount > 0;
      const sum = this.element.querySelector(".column-sum");
      sum.hidden = !this.talk.length;
      sum.textContent = `Spent ${usd(this.spent)}, saved ${usd(this.saved)} in this conversation.`;
    }

    stop() {
      this.asking?.abort();
    }

    // Has it failed, and not been stopped?
    async ask(text, how) {
      this.asking = new AbortController();
      const { signal } = this.asking;
      let failed = false;
      const model = this.input.value.trim();
      const mine = { role: "user", content: text };
      const turn = make("article", "turn");
      const answer = make("div", "says");
      turn.append(make("p", "asks", text), answer);
      this.turns.append(turn);
      this.tell();
      turn.setAttribute("aria-busy", "true");
      answer.textContent = "…";
      const heard = { text: "", told: new Map(), first: 0, end: 0, ended: false };
      const begun = performance.now();
      const moved = () => {
        if (!heard.text) return;
        if (!heard.first) heard.first = performance.now() - begun;
        const follows = this.turns.scrollHeight - this.turns.scrollTop - this.turns.clientHeight < 40;
        answer.textContent = heard.text;
        if (follows) this.turns.scrollTop = this.turns.scrollHeight;
      };
      this.turns.scrollTop = this.turns.scrollHeight;
      try {
        const { headers, ...body } = how;
        const messages = [...(body.system ? [{ role: "system", content: body.system }] : []), ...(body.alone ? [] : this.talk), mine];
        delete body.system;
        delete body.alone;
        const response = await fetch("/dashboard/playground/ask", {
          method: "POST", credentials: "same-origin", signal, headers, body: JSON.stringify({ model, messages, ...body }),
        });
        for (const [name, value] of response.headers) heard.told.set(name, value);
        if (!response.ok) throw new Error(await refused(response));
        if (response.headers.get("content-type").startsWith("text/event-stream")) await listen(response, heard, moved);
        else whole(await response.json(), heard);
        moved();
        this.talk.push(mine, { role: "assistant", content: heard.text });
        if (!heard.text) answer.textContent = "(an answer without words)";
      } catch (error) {
        const stopped = signal.aborted;
        failed = !stopped;
        if (!heard.text) {
          answer.textContent = "";
          answer.classList.add("nothing");
        }
        answer.append(make("p", `notice ${stopped ? "" : "bad"}`, stopped ? "Stopped." : error.message));
      }
      heard.end = performance.now() - begun;
      this.spent += Number(heard.told.get("x-sentinel-cost-usd") ?? 0);
      this.saved += Number(heard.told.get("x-sentinel-saved-usd") ?? 0);
      if (heard.told.size) turn.append(told(heard));
      turn.removeAttribute("aria-busy");
      this.tell();
      this.turns.scrollTop = this.turns.scrollHeight;
      return failed;
    }
  }

  const renumber = () => {
    open.forEach((column, index) => column.name(index + 1));
    field("add-model").disabled = open.length >= most;
  };
  const add = (model) => {
    open.push(new Column(model));
    renumber();
  };
  const close = (column) => {
    column.stop();
    open.splice(open.indexOf(column), 1);
    column.element.remove();
    renumber();
    open[0].input.focus();
  };

  // --- the form below them ---

  let asking = false;

  const busy = (is) => {
    field("send").disabled = is;
    field("stop").hidden = !is;
  };

  const wishes = () => {
    const headers = { "content-type": "application/json", "x-cache-explain": "true" };
    if (columns.dataset.token) headers["x-sentinel-token"] = columns.dataset.token;
    if (field("bypass").checked) headers["x-bypass-cache"] = "true";
    if (field("no-store").checked) headers["x-cache-ttl"] = "0";
    const how = { headers, alone: field("alone").checked };
    if (field("stream").checked) Object.assign(how, { stream: true, stream_options: { include_usage: true } });
    if (field("temperature").value) how.temperature = Number(field("temperature").value);
    if (field("max-tokens").value) how.max_tokens = Number(field("max-tokens").value);
    if (field("system").value.trim()) how.system = field("system").value.trim();
    return how;
  };

  form.addEventListener("submit", async (sent) => {
    sent.preventDefault();
    const text = field("prompt").value.trim();
    if (!text || asking) return;
    const lacks = open.find((column) => !column.input.value.trim());
    if (lacks) { lacks.input.focus(); return; }
    asking = true;
    busy(true);
    field("prompt").value = "";
    const failed = await Promise.all(open.map((column) => column.ask(text, wishes())));
    asking = false;
    busy(false);
    if (failed.every(Boolean) && !field("prompt").value) field("prompt").value = text;
    field("prompt").focus();
  });
  field("prompt").addEventListener("keydown", (pressed) => {
    if (pressed.key === "Enter" && !pressed.shiftKey && !pressed.isComposing) {
      pressed.preventDefault();
      form.requestSubmit();
    }
  });
  const stop = () => open.forEach((column) => column.stop());
  field("stop").addEventListener("click", stop);
  field("add-model").addEventListener("click", () => {
    const used = new Set(open.map((column) => column.input.value));
    const free = [...document.querySelectorAll("#models option")].find((option) => !used.has(option.value));
    add(free ? free.value : "");
    open.at(-1).input.select();
    open.at(-1).input.focus();
  });
  field("start-anew").addEventListener("click", () => {
    stop();
    for (const column of open) column.clear();
    field("prompt").focus();
  });

  add(columns.dataset.first);
})();
