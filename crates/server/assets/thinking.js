// What a model thinks before it answers, folded away.

import { el } from "./dom.js";
import { AnswerText } from "./text.js";

export class Thinking {
  constructor() {
    this.content = new AnswerText("thoughts");
    this.summary = el("summary");
    this.node = el("details", { className: "thinking" }, this.summary, this.content.node);
    this.clear();
  }

  get text() {
    return this.content.text;
  }

  clear() {
    this.content.clear();
    this.tokens = 0;
    this.live = false;
    this.node.hidden = true;
    this.node.open = false;
  }

  append(segments, tokens) {
    if (!this.live) this.begin();
    this.tokens += tokens;
    this.content.append(segments);
  }

  begin() {
    this.live = true;
    this.node.hidden = false;
    this.summary.textContent = "Thinking…";
  }

  // The server's count is better than ours: it knows the tokens that mark where thinking begins and ends.
  finish(tokens = this.tokens) {
    this.live = false;
    this.tokens = tokens;
    this.node.hidden = !this.text;
    const unit = tokens === 1 ? "token" : "tokens";
    this.summary.textContent = tokens ? `Thought for ${tokens} ${unit}` : "Thought";
  }

  restore(text, tokens) {
    this.content.append([{ text, source: "model" }]);
    this.finish(tokens);
  }
}
