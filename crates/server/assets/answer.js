// One answer: thinking, text and calls as they stream in, and the figures of how they came about.

import { Calls } from "./calls.js";
import { el, soon } from "./dom.js";
import { Measure, StatsView } from "./figures.js";
import { trends } from "./plots.js";
import { AnswerText, segmentsOf } from "./text.js";
import { Thinking } from "./thinking.js";

const DECODINGS = { lookahead: "Lookahead", plain: "Plain" };

export class Answer {
  constructor(decoding) {
    this.decoding = decoding;
    this.thinking = new Thinking();
    this.content = new AnswerText();
    this.calls = new Calls();
    this.stats = new StatsView();
    this.note = el("p", { className: "note", hidden: true });
    this.copy = copyButton(() => this.content.text);
    this.after = el("div", { className: "after" }, this.stats.sources, this.copy);
    this.node = el("article", { className: "answer", "aria-label": `Answer, ${decoding}` },
      el("h3", { className: "how", textContent: DECODINGS[decoding] }),
      this.thinking.node, this.content.node, this.calls.node, this.note, this.stats.node, this.after);
    this.node.dataset.decoding = decoding;
    this.draw = () => this.measure && this.stats.show(this.measure);
    this.reset();
  }

  reset() {
    this.enter("waiting");
    this.measure = null;
    this.finishReason = null;
    this.thinking.clear();
    this.content.clear();
    this.calls.clear();
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
    this.traced = false;
    this.enter("streaming");
    this.say("");
    this.node.setAttribute("aria-busy", "true");
  }

  take(chunk) {
    if (chunk.usage) {
      this.measure.settle(chunk.usage);
      this.reasoningTokens = chunk.usage.completion_tokens_details?.reasoning_tokens;
    }
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const { content = "", reasoning_content: thought = "", tool_calls: calls = [] } = choice.delta ?? {};
    if (content || thought || calls?.length || chunk.lookahead) this.step(content, thought, calls, chunk.lookahead);
    if (choice.finish_reason) this.finishReason = choice.finish_reason;
  }

  step(content, thought, calls, trace) {
    this.count(trace);
    if (thought) this.thinking.append(segmentsOf(thought, trace), trace?.tokens?.length ?? 1);
    else if (this.thinking.live && (content || calls?.length)) this.thinking.finish();
    if (content) this.content.append(segmentsOf(content, trace));
    if (calls) this.calls.take(calls);
    soon(this.draw);
  }

  // Where steps are traced, a step of several chunks counts once, with its first.
  count(trace) {
    this.traced ||= Boolean(trace);
    if (trace || !this.traced) this.measure.step(trace);
    if (trace && this.decoding === "lookahead") trends.addStep(this, trace);
  }

  end(state) {
    this.enter(state);
    this.node.removeAttribute("aria-busy");
    this.thinking.finish(this.reasoningTokens || this.thinking.tokens);
    this.show();
    if (!this.measure.steps) return;
    this.stats.show(this.measure);
    this.stats.showSources(this.measure);
    trends.addAnswer(this);
  }

  show() {
    this.content.finish();
    this.calls.finish();
    this.copy.hidden = !navigator.clipboard || !this.content.text;
    if (this.state === "stopped") this.say("Stopped.");
    else if (this.finishReason === "length") this.say("Cut at the most tokens allowed.");
  }

  enter(state) {
    this.state = state;
    this.node.dataset.state = state;
  }

  // The answer as the history of the next question has it; null where nothing came.
  get message() {
    const message = { role: "assistant", content: this.content.text };
    const calls = this.calls.messages;
    if (this.thinking.text) message.reasoning_content = this.thinking.text;
    if (calls.length) message.tool_calls = calls;
    return message.content || message.reasoning_content || calls.length ? message : null;
  }

  get record() {
    return {
      decoding: this.decoding,
      state: this.state,
      finishReason: this.finishReason,
      thinking: this.thinking.text,
      thinkingTokens: this.thinking.tokens,
      text: this.content.text,
      calls: this.calls.records,
    };
  }

  // Where tokens came from is not kept, so the text is plain.
  restore({ state, finishReason = null, thinking = "", thinkingTokens = 0, text = "", calls = [] }) {
    this.enter(state === "streaming" ? "stopped" : state);
    this.finishReason = finishReason;
    if (thinking) this.thinking.restore(thinking, thinkingTokens);
    if (text) this.content.append([{ text, source: "model" }]);
    this.calls.restore(calls);
    this.show();
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
