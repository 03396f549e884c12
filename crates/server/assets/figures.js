// The figures of one answer: speed, time until the first token, tokens a pass, accepted drafts.

import { decimals, el, rate, seconds } from "./dom.js";
import { SOURCES } from "./text.js";

export class Measure {
  constructor() {
    this.start = performance.now();
    this.firstAt = null;
    this.lastAt = null;
    this.tokens = 0;
    this.firstTokens = 0;
    this.steps = 0;
    this.drafted = 0;
    this.accepted = 0;
    this.bySource = {};
  }

  step(trace) {
    const tokens = trace?.tokens ?? [{ source: "model" }];
    this.lastAt = performance.now();
    if (this.firstAt === null) {
      this.firstAt = this.lastAt;
      this.firstTokens = tokens.length;
    }
    this.steps += 1;
    this.tokens += tokens.length;
    this.drafted += trace?.drafted ?? 0;
    this.accepted += trace?.accepted ?? 0;
    for (const { source } of tokens) {
      if (source in SOURCES) this.bySource[source] = (this.bySource[source] ?? 0) + 1;
    }
  }

  // The server's own count is better than ours: it also has the tokens that no chunk showed.
  settle(usage) {
    this.tokens = usage.completion_tokens ?? this.tokens;
    const own = usage.lookahead;
    if (!own) return;
    this.steps = own.steps ?? this.steps;
    this.drafted = own.drafted ?? this.drafted;
    this.accepted = own.accepted ?? this.accepted;
    this.edlOfServer = own.edl;
    this.bySource = own.accepted_by_source ?? this.bySource;
  }

  get edl() {
    return this.edlOfServer ?? (this.steps ? this.tokens / this.steps : null);
  }

  // From the first token on: what comes before is reading the prompt, which drafts cannot speed up.
  get speed() {
    const took = this.lastAt - this.firstAt;
    const tokens = this.tokens - this.firstTokens;
    return took > 0 && tokens > 0 ? (1000 * tokens) / took : null;
  }

  get untilFirst() {
    return this.firstAt === null ? null : this.firstAt - this.start;
  }
}

const STATS = [
  ["speed", "Tokens/s", "Tokens per second, from the first token on", (m) => m.speed && rate(m.speed)],
  ["first", "First token", "Time until the first token", (m) => m.untilFirst !== null && seconds(m.untilFirst)],
  ["edl", "EDL", "Effective decoding length: tokens per pass of the model", (m) => m.edl && decimals(m.edl, 2)],
  ["accepted", "Accepted", "Drafted tokens that the model accepted", (m) => m.drafted > 0 && `${m.accepted}/${m.drafted}`],
  ["tokens", "Tokens", "Tokens of the answer", (m) => m.tokens > 0 && String(m.tokens)],
];

export class StatsView {
  constructor() {
    this.values = {};
    this.node = el("dl", { className: "stats", hidden: true });
    this.sources = el("ul", { className: "sources", "aria-label": "Accepted drafts by source" });
    for (const [name, label, title] of STATS) {
      const value = el("dd", { textContent: "–" });
      value.dataset.stat = name;
      this.values[name] = value;
      this.node.append(el("div", { title }, el("dt", { textContent: label }), value));
    }
  }

  show(measure) {
    this.node.hidden = false;
    for (const [name, , , format] of STATS) this.values[name].textContent = format(measure) || "–";
  }

  showSources(measure) {
    const counted = Object.entries(SOURCES).filter(([source]) => measure.bySource[source] > 0);
    this.sources.replaceChildren(...counted.map(([source, [label]]) =>
      el("li", {}, el("span", { className: `token from-${source}`, textContent: label }), ` ${measure.bySource[source]}`)));
  }
}
