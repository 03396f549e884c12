// The chat page: talks to this server's own API and shows how each token came about.
// No framework and no build step; text of the model only ever becomes text nodes.

// Where an accepted draft can come from. The class `from-NAME` carries its colour and underline in style.css.
const SOURCES = {
  prompt: ["prompt", "from this conversation"],
  output: ["earlier answer", "from an earlier answer"],
  corpus: ["corpus", "from an indexed corpus"],
  prediction: ["prediction", "sent with the request"],
  runners_up: ["runner-up", "an earlier second choice"],
  grammar: ["grammar", "all the grammar allows"],
};

const SAMPLES = [
  "Explain in two sentences why the sky is blue.",
  "Write a Python function that tests whether a word is a palindrome, with tests.",
  "List the planets of the solar system with one fact about each.",
];

const SAMPLING_FIELDS = ["temperature", "top_p", "seed", "max_tokens"];
const MEAN_OVER_STEPS = 16;
const STEPS_SHOWN = 200;
const ANSWERS_SHOWN = 8;
const ANNOUNCE_EVERY_MS = 4000;

// ---------------------------------------------------------------- small helpers

const byId = (id) => document.getElementById(id);

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Storage throws where cookies are blocked; the page then works without a memory.
const memory = {
  read(store, key) {
    try {
      return window[store].getItem(key);
    } catch {
      return null;
    }
  },
  write(store, key, value) {
    try {
      if (value === null) window[store].removeItem(key);
      else window[store].setItem(key, value);
    } catch {
      // Nothing is lost but the setting.
    }
  },
};

// Tokens arrive faster than a screen can show figures: these are drawn once a frame.
const dirty = new Set();
function soon(draw) {
  if (dirty.size === 0) requestAnimationFrame(drawNow);
  dirty.add(draw);
}
function drawNow() {
  const draws = [...dirty];
  dirty.clear();
  for (const draw of draws) draw();
}

const decimals = (value, digits) => value.toFixed(digits);
const percent = (part, whole) => `${Math.round((100 * part) / whole)}%`;
const rate = (value) => (value >= 100 ? decimals(value, 0) : decimals(value, 1));
const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${decimals(ms / 1000, 2)} s`);

// ---------------------------------------------------------------- the API

class ApiError extends Error {
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const KEY = "lookahead.key";
let key = memory.read("sessionStorage", KEY);

function setKey(value) {
  key = value;
  memory.write("sessionStorage", KEY, value);
  byId("key-state").hidden = !value;
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it running?");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  let message = `The server answered ${response.status} ${response.statusText}`.trim();
  try {
    message = (await response.json()).error.message || message;
  } catch {
    // No JSON: a proxy answered. Its status says enough.
  }
  return new ApiError(message, response.status, response.headers.get("Retry-After"));
}

async function* serverEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += decoder.decode(value, { stream: true });
      const lines = buffer.split(/\r?\n/);
      buffer = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function* completionChunks(body, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  try {
    for await (const data of serverEvents(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message);
      yield chunk;
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("The connection broke in the middle of the answer.");
  }
  throw new ApiError("The answer broke off before its end.");
}

let model = null;

async function loadModel() {
  const list = await (await request("/v1/models")).json();
  model = list.data[0];
  byId("model").textContent = model.id;
  const context = model.meta?.n_ctx_train;
  byId("model").title = context ? `${model.id}, context of ${context} tokens` : model.id;
}

// ---------------------------------------------------------------- the text of an answer

// What a chunk's text is made of. A stop string or half a character can hold text back, so that tokens and text
// differ; the text is then what counts, and nothing is said of where it came from.
function segmentsOf(content, trace) {
  const tokens = trace?.tokens ?? [];
  const joined = tokens.map((token) => token.text).join("");
  if (!content.startsWith(joined)) return [{ text: content, source: "model" }];
  return [...tokens, { text: content.slice(joined.length), source: "model" }].filter((part) => part.text);
}

function nodeOf(segment) {
  if (!(segment.source in SOURCES)) return document.createTextNode(segment.text);
  return el("span", { className: `token from-${segment.source}`, textContent: segment.text });
}

function appendSegment(parent, segment) {
  const node = nodeOf(segment);
  const last = parent.lastChild;
  if (node.nodeType === Node.TEXT_NODE && last?.nodeType === Node.TEXT_NODE) last.appendData(segment.text);
  else parent.append(node);
}

// Splits a text at its code fences, as offsets, so that the segments can be cut at the same places.
function blocksOf(text) {
  const fence = /^ {0,3}```[ \t]*([^`\n]*)$/gm;
  const blocks = [];
  let start = 0;
  let open = null;
  for (const match of text.matchAll(fence)) {
    const after = Math.min(match.index + match[0].length + 1, text.length);
    if (!open) {
      blocks.push({ code: false, from: start, to: match.index });
      open = { code: true, from: after, language: match[1].trim() };
    } else if (!match[1].trim()) {
      blocks.push({ ...open, to: Math.max(open.from, match.index - 1) });
      open = null;
      start = after;
    }
  }
  blocks.push(open ? { ...open, to: text.length } : { code: false, from: start, to: text.length });
  return blocks.filter((block) => block.code || text.slice(block.from, block.to).trim());
}

class AnswerText {
  constructor() {
    this.node = el("div", { className: "text" });
    this.clear();
  }

  clear() {
    this.node.replaceChildren();
    this.segments = [];
    this.text = "";
  }

  append(segments) {
    for (const segment of segments) {
      this.segments.push(segment);
      this.text += segment.text;
      appendSegment(this.node, segment);
    }
  }

  // Laid out once, at the end: while text streams in, a fence may still turn out to be none.
  finish() {
    const blocks = blocksOf(this.text);
    if (!blocks.some((block) => block.code)) return;
    this.node.replaceChildren(...blocks.map((block) => this.layOut(block)));
  }

  layOut(block) {
    const { from, to } = block.code ? block : this.trimmed(block);
    const holder = el(block.code ? "code" : "div");
    this.cut(from, to).forEach((segment) => appendSegment(holder, segment));
    if (!block.code) return holder;
    const pre = el("pre", { tabIndex: 0, "aria-label": `Code ${block.language}`.trim() }, holder);
    if (block.language) pre.dataset.language = block.language;
    return pre;
  }

  // A block of its own brings its margin, so the line breaks around it go.
  trimmed({ from, to }) {
    while (from < to && this.text[from] === "\n") from += 1;
    while (to > from && this.text[to - 1] === "\n") to -= 1;
    return { from, to };
  }

  cut(from, to) {
    const parts = [];
    let at = 0;
    for (const { text, source } of this.segments) {
      const piece = text.slice(Math.max(0, from - at), Math.max(0, to - at));
      if (piece) parts.push({ text: piece, source });
      at += text.length;
    }
    return parts;
  }
}

// ---------------------------------------------------------------- figures of an answer

class Measure {
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

class StatsView {
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

// ---------------------------------------------------------------- one answer

const DECODINGS = { lookahead: "Lookahead", plain: "Plain" };

class Answer {
  constructor(decoding) {
    this.decoding = decoding;
    this.content = new AnswerText();
    this.stats = new StatsView();
    this.note = el("p", { className: "note", hidden: true });
    this.copy = copyButton(() => this.content.text);
    this.node = el("article", { className: "answer", "aria-label": `Answer, ${decoding}` },
      el("h3", { className: "how", textContent: DECODINGS[decoding] }),
      this.content.node, this.note, this.stats.node, el("div", { className: "after" }, this.stats.sources, this.copy));
    this.node.dataset.decoding = decoding;
    this.draw = () => this.measure && this.stats.show(this.measure);
    this.reset();
  }

  reset() {
    this.enter("waiting");
    this.measure = null;
    this.finishReason = null;
    this.content.clear();
    this.stats.node.hidden = true;
    this.stats.sources.replaceChildren();
    this.copy.hidden = true;
    this.say("");
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  begin() {
    this.measure = new Measure();
    this.enter("streaming");
    this.say("");
    this.node.setAttribute("aria-busy", "true");
  }

  take(chunk) {
    if (chunk.usage) this.measure.settle(chunk.usage);
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const text = choice.delta?.content ?? "";
    if (text || chunk.lookahead) this.step(text, chunk.lookahead);
    if (choice.finish_reason) this.finishReason = choice.finish_reason;
  }

  step(text, trace) {
    this.measure.step(trace);
    this.content.append(segmentsOf(text, trace));
    if (trace && this.decoding === "lookahead") trends.addStep(this, trace);
    soon(this.draw);
  }

  end(state) {
    this.enter(state);
    this.node.removeAttribute("aria-busy");
    this.content.finish();
    this.copy.hidden = !navigator.clipboard || !this.content.text;
    if (state === "stopped") this.say("Stopped.");
    else if (this.finishReason === "length") this.say("Cut at the most tokens allowed.");
    if (!this.measure.steps) return;
    this.stats.show(this.measure);
    this.stats.showSources(this.measure);
    trends.addAnswer(this);
  }

  enter(state) {
    this.state = state;
    this.node.dataset.state = state;
  }
}

function copyButton(text) {
  const button = el("button", { type: "button", className: "link", textContent: "Copy", hidden: true });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

// ---------------------------------------------------------------- one question and its answers

class Turn {
  constructor(question, mode, sampling) {
    this.question = question;
    this.sampling = sampling;
    this.answers = (mode === "both" ? ["lookahead", "plain"] : [mode]).map((decoding) => new Answer(decoding));
    this.verdict = el("div", { className: "verdict", hidden: true });
    this.problem = el("div", { className: "problem", hidden: true });
    this.node = el("li", { className: "turn" },
      el("div", { className: "question" },
        el("h2", { className: "hidden", textContent: "You" }), el("p", { textContent: question })),
      el("div", { className: `answers ${mode}` }, ...this.answers.map((answer) => answer.node)),
      this.verdict, this.problem);
  }

  // Both answers of a comparison are the same text, so either can be the history of the next question.
  get reply() {
    return this.answers[0].content.text;
  }

  get compares() {
    return this.answers.length > 1;
  }

  reset() {
    this.answers.forEach((answer) => answer.reset());
    this.problem.hidden = true;
    this.verdict.hidden = true;
    if (this.compares) this.answers[1].say("Waits for the other, so that they do not share the machine.");
  }

  leaveRest() {
    for (const answer of this.answers) {
      if (answer.state !== "waiting") continue;
      answer.enter("failed");
      answer.say(this.compares ? "Not asked." : "");
    }
  }

  fail(error, retry) {
    const wait = error.status === 429 && error.retryAfter ? ` Try again in about ${error.retryAfter} s.` : "";
    const message = el("p", { role: "alert", textContent: error.message + wait });
    this.problem.replaceChildren(message, retryButton(retry));
    this.problem.hidden = false;
  }

  offerAgain(retry) {
    this.problem.replaceChildren(retryButton(retry));
    this.problem.hidden = false;
  }

  judge() {
    const [lookahead, plain] = this.answers;
    const same = lookahead.content.text === plain.content.text;
    const mark = same
      ? el("span", { className: "same", textContent: "✓ same text" })
      : el("span", { className: "differs", textContent: "✗ different text" });
    const parts = [mark];
    if (lookahead.measure.speed && plain.measure.speed) {
      const ratio = decimals(lookahead.measure.speed / plain.measure.speed, 2);
      parts.unshift(el("span", {}, el("strong", { className: "ratio", textContent: `${ratio}×` }), " the speed of plain"));
    }
    const note = el("p", { className: "note", textContent:
      "Asked one after the other, plain second, with the same seed and settings. Speeds count from the first token on." });
    this.verdict.replaceChildren(el("p", {}, ...parts), note);
    this.verdict.hidden = false;
    return parts.map((part) => part.textContent).join(", ");
  }
}

function retryButton(retry) {
  const button = el("button", { type: "button", className: "retry", textContent: "Try again" });
  button.addEventListener("click", retry);
  return button;
}

// ---------------------------------------------------------------- plots

const WIDTH = 288;
const HEIGHT = 80;
const AREA = { left: 30, right: WIDTH - 4, top: 8, bottom: HEIGHT - 8 };

class Plot {
  constructor(id, title, hint = "") {
    this.title = title;
    this.value = el("strong", { textContent: "–" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: no answer yet` });
    const caption = el("figcaption", {}, el("span", {}, title), this.value);
    byId(id).replaceChildren(caption, this.picture);
    if (hint) byId(id).append(el("p", { className: "note", textContent: hint }));
    this.show([], "–", "no answer yet");
  }

  y(value, top) {
    return AREA.bottom - (value / top) * (AREA.bottom - AREA.top);
  }

  grid(marks, top, format) {
    return marks.flatMap((mark) => {
      const y = this.y(mark, top);
      return [
        svg("line", { class: "grid", x1: AREA.left, x2: AREA.right, y1: y, y2: y }),
        svg("text", { class: "tick", x: AREA.left - 5, y: y + 3, "text-anchor": "end" }, format(mark)),
      ];
    });
  }

  show(shapes, value, description) {
    this.value.textContent = value;
    this.picture.setAttribute("aria-label", `${this.title}: ${description}`);
    this.picture.replaceChildren(...shapes);
    if (shapes.length === 0) {
      const middle = { class: "tick", x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" };
      this.picture.append(svg("text", middle, "No answer yet"));
    }
  }
}

function xOfStep(index, count) {
  const places = Math.max(count, 40) - 1;
  return AREA.left + (index / places) * (AREA.right - AREA.left);
}

// A line with gaps where there is no value, and at the border between two answers.
function linePath(values, steps, y) {
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    const joined = pen && steps[index].answer === steps[index - 1]?.answer;
    path += `${joined ? "L" : "M"}${xOfStep(index, values.length).toFixed(1)} ${y(value).toFixed(1)}`;
    // A lone point needs some length to be seen.
    if (!joined) path += "h.5";
    pen = true;
  });
  return path;
}

function borders(steps) {
  return steps.flatMap((step, index) => {
    if (index === 0 || step.answer === steps[index - 1].answer) return [];
    const x = xOfStep(index - 0.5, steps.length);
    return [svg("line", { class: "border", x1: x, x2: x, y1: AREA.top, y2: AREA.bottom })];
  });
}

// Mean over the last steps of the same answer: what the step before an answer did says nothing about it.
function movingRatio(steps, part, whole) {
  let first = 0;
  let sums = [0, 0];
  return steps.map((step, index) => {
    if (index && step.answer !== steps[index - 1].answer) {
      first = index;
      sums = [0, 0];
    }
    sums = [sums[0] + part(step), sums[1] + whole(step)];
    if (index - first >= MEAN_OVER_STEPS) {
      sums = [sums[0] - part(steps[first]), sums[1] - whole(steps[first])];
      first += 1;
    }
    return sums[1] ? sums[0] / sums[1] : null;
  });
}

const lastValue = (values) => values.findLast((value) => value !== null) ?? null;

const trends = {
  steps: [],
  answers: [],

  start() {
    this.edl = new Plot("plot-edl", "Tokens a step (EDL)");
    this.acceptance = new Plot("plot-acceptance", "Drafts accepted");
    this.speed = new Plot("plot-speed", "Tokens per second", "Filled: lookahead. Hollow: plain.");
  },

  addStep(answer, { tokens = [], drafted = 0, accepted = 0 }) {
    this.steps.push({ answer, tokens: tokens.length, drafted, accepted });
    if (this.steps.length > STEPS_SHOWN) this.steps.shift();
    soon(drawSteps);
  },

  addAnswer(answer) {
    if (!answer.measure.speed) return;
    this.answers.push({ speed: answer.measure.speed, decoding: answer.decoding });
    if (this.answers.length > ANSWERS_SHOWN) this.answers.shift();
    soon(drawAnswers);
  },
};

function drawSteps() {
  drawEdl(trends.steps);
  drawAcceptance(trends.steps);
}

function drawEdl(steps) {
  const means = movingRatio(steps, (step) => step.tokens, () => 1);
  const top = Math.max(4, ...steps.map((step) => step.tokens));
  const y = (value) => trends.edl.y(value, top);
  const x = (index) => xOfStep(index, steps.length).toFixed(1);
  const bars = steps.map((step, index) => `M${x(index)} ${y(0)}V${y(step.tokens).toFixed(1)}`);
  const now = decimals(lastValue(means), 2);
  trends.edl.show([
    ...trends.edl.grid([0, Math.round(top / 2), top], top, String),
    svg("path", { class: "bars", d: bars.join("") }),
    ...borders(steps),
    svg("path", { class: "line", d: linePath(means, steps, y) }),
  ], now, `${now} on average over the last ${MEAN_OVER_STEPS} steps; ${steps.length} steps shown`);
}

function drawAcceptance(steps) {
  const shares = movingRatio(steps, (step) => step.accepted, (step) => step.drafted);
  const y = (value) => trends.acceptance.y(value, 1);
  const last = lastValue(shares);
  const now = last === null ? "–" : percent(last, 1);
  trends.acceptance.show([
    ...trends.acceptance.grid([0, 0.5, 1], 1, (mark) => percent(mark, 1)),
    ...borders(steps),
    svg("path", { class: "line", d: linePath(shares, steps, y) }),
  ], now, last === null ? "nothing drafted yet" : `${now} of the last drafts accepted; ${steps.length} steps shown`);
}

function drawAnswers() {
  const { answers, speed: plot } = trends;
  const top = Math.max(...answers.map((answer) => answer.speed)) * 1.2;
  const place = (AREA.right - AREA.left) / ANSWERS_SHOWN;
  const width = place * 0.7;
  const bars = answers.flatMap(({ speed, decoding }, index) => {
    const x = AREA.left + index * place + (place - width) / 2;
    const y = plot.y(speed, top);
    return [
      svg("rect", { class: `bar ${decoding}`, x, y, width, height: AREA.bottom - y, rx: 2 }),
      svg("text", { class: "tick", x: x + width / 2, y: y - 3, "text-anchor": "middle" }, rate(speed)),
    ];
  });
  const said = answers.map((answer) => `${answer.decoding} ${rate(answer.speed)}`).join(", ");
  const { speed, decoding } = answers.at(-1);
  plot.show([...plot.grid([0], top, String), ...bars], `${rate(speed)} ${decoding}`, `last answers, oldest first: ${said}`);
}

// ---------------------------------------------------------------- reading aloud

// A screen reader gets whole sentences, and not more often than it can speak them.
const announcer = {
  pending: "",
  last: 0,

  feed(text) {
    this.pending += text;
    if (performance.now() - this.last < ANNOUNCE_EVERY_MS) return;
    const end = this.pending.search(/[.!?:\n][^.!?:\n]*$/);
    if (end < 0) return;
    this.say(this.pending.slice(0, end + 1));
    this.pending = this.pending.slice(end + 1);
  },

  say(text) {
    this.last = performance.now();
    byId("announcer").textContent = text;
  },

  finish(more) {
    this.say(`${this.pending} ${more}`.trim());
    this.pending = "";
  },
};

// ---------------------------------------------------------------- settings

const SETTINGS = "lookahead.settings";

function settingsForm() {
  return byId("settings-form").elements;
}

function saveSettings() {
  const form = settingsForm();
  const saved = { mode: mode(), colours: byId("colours").checked };
  for (const name of ["system", ...SAMPLING_FIELDS]) saved[name] = form[name].value;
  memory.write("localStorage", SETTINGS, JSON.stringify(saved));
}

function restoreSettings() {
  let saved = {};
  try {
    saved = JSON.parse(memory.read("localStorage", SETTINGS)) ?? {};
  } catch {
    // Written by something else: start afresh.
  }
  const form = settingsForm();
  for (const name of ["system", ...SAMPLING_FIELDS]) form[name].value = saved[name] ?? "";
  byId("colours").checked = saved.colours ?? true;
  const chosen = document.querySelector(`#modes input[value="${CSS.escape(saved.mode ?? "lookahead")}"]`);
  if (chosen) chosen.checked = true;
  showColours();
}

function mode() {
  return document.querySelector("#modes input:checked").value;
}

function showColours() {
  document.body.classList.toggle("colours", byId("colours").checked);
}

function sampling() {
  const form = settingsForm();
  const chosen = {};
  for (const name of SAMPLING_FIELDS) {
    if (form[name].value !== "") chosen[name] = form[name].valueAsNumber;
  }
  // Two samples are the same text only from the same seed.
  if (mode() === "both") chosen.seed ??= crypto.getRandomValues(new Uint32Array(1))[0];
  return chosen;
}

// ---------------------------------------------------------------- the conversation

let turns = [];
let running = null;
let afterKey = null;

function messagesBefore(turn) {
  const system = settingsForm().system.value.trim();
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const earlier of turns.slice(0, turns.indexOf(turn))) {
    if (!earlier.reply) continue;
    messages.push({ role: "user", content: earlier.question }, { role: "assistant", content: earlier.reply });
  }
  messages.push({ role: "user", content: turn.question });
  return messages;
}

function bodyOf(turn, answer) {
  return {
    model: model.id,
    messages: messagesBefore(turn),
    stream: true,
    stream_options: { include_usage: true },
    ...turn.sampling,
    lookahead: { enabled: answer.decoding === "lookahead", trace: true },
  };
}

async function send(question) {
  if (running || !question.trim()) return false;
  if (!byId("settings-form").checkValidity()) {
    openSettings();
    byId("settings-form").reportValidity();
    return false;
  }
  const turn = new Turn(question.trim(), mode(), sampling());
  turns.push(turn);
  byId("welcome").hidden = true;
  byId("turns").append(turn.node);
  follow(true);
  ask(turn);
  return true;
}

async function ask(turn) {
  if (running) return;
  const controller = new AbortController();
  const retry = () => ask(turn);
  setRunning(controller);
  turn.reset();
  announcer.finish("Answering");
  try {
    if (!model) await loadModel();
    for (const answer of turn.answers) await stream(turn, answer, controller.signal);
    announcer.finish(turn.compares ? turn.judge() : "");
  } catch (error) {
    if (controller.signal.aborted) endStopped(turn, retry);
    else fail(turn, error, retry);
  } finally {
    if (running === controller) setRunning(null);
    follow();
  }
}

async function stream(turn, answer, signal) {
  const body = bodyOf(turn, answer);
  answer.begin();
  try {
    for await (const chunk of completionChunks(body, signal)) {
      answer.take(chunk);
      if (answer === turn.answers[0]) announcer.feed(chunk.choices?.[0]?.delta?.content ?? "");
      soon(follow);
    }
    answer.end("done");
  } catch (error) {
    answer.end(signal.aborted ? "stopped" : "failed");
    throw error;
  }
}

function endStopped(turn, retry) {
  announcer.finish("Stopped.");
  turn.leaveRest();
  turn.offerAgain(retry);
}

function fail(turn, error, retry) {
  announcer.finish("");
  if (!(error instanceof ApiError)) console.error(error);
  turn.leaveRest();
  turn.fail(error, retry);
  if (error.status === 401) askForKey(error, retry);
}

function stop() {
  running?.abort();
}

function setRunning(controller) {
  running = controller;
  const stopHadFocus = document.activeElement === byId("stop");
  byId("stop").hidden = !controller;
  byId("send").hidden = Boolean(controller);
  if (stopHadFocus && !controller) byId("question").focus();
}

function newChat() {
  stop();
  running = null;
  turns = [];
  setRunning(null);
  byId("turns").replaceChildren();
  byId("welcome").hidden = false;
  byId("question").focus();
}

// Follows the answer to its end, unless the reader has scrolled up.
let atEnd = true;
let lastTop = 0;

function follow(always = false) {
  const scroller = byId("scroller");
  if (always === true) atEnd = true;
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
}

// Text may have grown between our scrolling and its event, so being far from the end is no sign; going up is.
function onScroll() {
  const { scrollTop, scrollHeight, clientHeight } = byId("scroller");
  if (scrollHeight - scrollTop - clientHeight < 48) atEnd = true;
  else if (scrollTop < lastTop) atEnd = false;
  lastTop = scrollTop;
}

// ---------------------------------------------------------------- the key

function askForKey(error, then) {
  byId("key-note").textContent = key
    ? `The server refused this key: ${error.message}`
    : "This server asks for a key. It is kept until this tab closes.";
  setKey(null);
  afterKey = then;
  byId("key-form").hidden = false;
  byId("key").value = "";
  byId("key").focus();
}

async function useKey(event) {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key-form").hidden = true;
  byId("question").focus();
  afterKey?.();
}

async function firstLoad() {
  try {
    await loadModel();
  } catch (error) {
    byId("model").textContent = "no model";
    byId("model").title = error.message;
    if (error.status === 401) askForKey(error, firstLoad);
  }
}

// ---------------------------------------------------------------- the page

function fillLegend() {
  byId("legend").append(el("li", {},
    el("span", { textContent: "plain" }), el("small", { textContent: "the model’s own token" })));
  for (const [source, [label, meaning]] of Object.entries(SOURCES)) {
    byId("legend").append(el("li", {},
      el("span", { className: `token from-${source}`, textContent: label }), el("small", { textContent: meaning })));
  }
}

function fillSamples() {
  for (const sample of SAMPLES) {
    const button = el("button", { type: "button", textContent: sample });
    button.addEventListener("click", () => send(sample).then(() => byId("question").focus()));
    byId("samples").append(el("li", {}, button));
  }
}

function fitQuestion() {
  const box = byId("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

async function submitQuestion(event) {
  event.preventDefault();
  const box = byId("question");
  if (!(await send(box.value))) return;
  box.value = "";
  fitQuestion();
  box.focus();
}

function onQuestionKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
}

function openSettings() {
  byId("key-state").hidden = !key;
  byId("settings").showModal();
}

function showInsights(shown) {
  byId("insights").hidden = !shown;
  document.body.classList.toggle("without-insights", !shown);
  byId("toggle-insights").setAttribute("aria-expanded", String(shown));
}

function listen() {
  byId("composer").addEventListener("submit", submitQuestion);
  byId("question").addEventListener("keydown", onQuestionKey);
  byId("question").addEventListener("input", fitQuestion);
  byId("stop").addEventListener("click", stop);
  byId("new-chat").addEventListener("click", newChat);
  byId("key-form").addEventListener("submit", useKey);
  byId("toggle-insights").addEventListener("click", () => showInsights(byId("insights").hidden));
  byId("modes").addEventListener("change", saveSettings);
  byId("colours").addEventListener("change", () => (showColours(), saveSettings()));
  listenToSettings();
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("settings").open) stop();
  });
  byId("scroller").addEventListener("scroll", onScroll);
}

function listenToSettings() {
  byId("open-settings").addEventListener("click", openSettings);
  byId("settings-form").addEventListener("input", saveSettings);
  byId("forget-key").addEventListener("click", () => setKey(null));
  byId("reset-settings").addEventListener("click", () => {
    byId("settings-form").reset();
    saveSettings();
  });
}

restoreSettings();
fillLegend();
fillSamples();
trends.start();
showInsights(matchMedia("(min-width: 60rem)").matches);
listen();
firstLoad();
