// One turn: what a person said (or tools returned), and the answers to it.
// A turn that is edited or answered again gets a sibling, so the turns of a conversation are a tree.

import { Answer } from "./answer.js";
import { decimals, el, newId } from "./dom.js";
import { messageForm } from "./forms.js";

const LONG_MESSAGE = 2000;

export class Turn {
  // `actions` has what a person can do with a turn: ask, edit, again, branch, answerCalls.
  constructor({ id = newId(), parent = null, input, mode, sampling }, actions) {
    Object.assign(this, { id, parent, input, mode, sampling, actions });
    this.chosen = null;
    this.answers = (mode === "both" ? ["lookahead", "plain"] : [mode]).map((decoding) => new Answer(decoding));
    this.asked = el("div", { className: "question" });
    this.branches = el("nav", { className: "branches", "aria-label": "Branches", hidden: true });
    this.verdict = el("div", { className: "verdict", hidden: true });
    this.problem = el("div", { className: "problem", hidden: true });
    this.results = el("div", { className: "results", hidden: true });
    this.again = linkButton("Answer again", () => actions.again(this), "again");
    this.answers[0].after.append(this.again);
    this.node = el("li", { className: "turn" }, this.asked,
      el("div", { className: `answers ${mode}` }, ...this.answers.map((answer) => answer.node)),
      this.verdict, this.results, this.problem);
    this.showInput();
  }

  // Both answers of a comparison are the same text, so either can be the history of the next question.
  get message() {
    return this.answers[0].message;
  }

  get calls() {
    return this.message?.tool_calls ?? [];
  }

  get compares() {
    return this.answers.length > 1;
  }

  showInput() {
    const tools = el("div", { className: "turn-actions" });
    if (this.input.length) tools.append(this.branches, linkButton("Edit", () => this.edit(), "edit"));
    else tools.append(this.branches);
    this.asked.replaceChildren(el("h2", { className: "hidden", textContent: "You" }),
      ...this.input.map((message) => this.shown(message)), tools);
  }

  shown(message) {
    if (message.role === "tool") {
      return el("details", { className: "result" },
        el("summary", { textContent: this.labelOf(message) }), el("pre", { tabIndex: 0, textContent: message.content }));
    }
    const text = el("p", { className: message.role, textContent: message.content });
    if (message.content.length > LONG_MESSAGE) {
      text.classList.add("long");
      text.tabIndex = 0;
    }
    return text;
  }

  labelOf(message) {
    if (message.role !== "tool") return message.role === "user" ? "Your message" : "System prompt";
    const name = this.parent?.answers[0].calls.nameOf(message.tool_call_id);
    return name ? `Result of ${name}` : "Result of a tool";
  }

  edit() {
    const done = () => (this.showInput(), this.asked.querySelector(".edit")?.focus());
    const form = messageForm(this.input, {
      label: (message) => this.labelOf(message),
      submit: "Send as a branch",
      onSubmit: (input) => (done(), this.actions.edit(this, input)),
      onCancel: done,
    });
    this.asked.replaceChildren(form);
    form.querySelector("textarea").focus();
  }

  showBranches(index, count) {
    this.branches.hidden = count < 2;
    const step = (by, sign, label) => {
      const button = linkButton(sign, () => this.actions.branch(this, by), by < 0 ? "previous" : "next");
      button.setAttribute("aria-label", label);
      button.disabled = index + by < 0 || index + by >= count;
      return button;
    };
    const place = el("span", { textContent: `${index + 1}/${count}` });
    this.branches.replaceChildren(step(-1, "‹", "Previous branch"), place, step(1, "›", "Next branch"));
  }

  // The calls of the answer wait for what their tools return.
  offerResults() {
    this.results.hidden = this.calls.length === 0;
    if (this.results.hidden) return;
    const empty = this.calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "" }));
    const names = new Map(this.calls.map((call) => [call.id, call.function.name]));
    this.form = messageForm(empty, {
      label: (message) => `Result of ${names.get(message.tool_call_id)}`,
      submit: "Send results",
      onSubmit: (input) => this.actions.answerCalls(this, input),
    });
    this.results.replaceChildren(this.form);
  }

  // What is typed so far as results of the calls, which a new question must not leave without an answer.
  get typedResults() {
    return this.calls.length && this.form ? this.form.messages() : [];
  }

  reset() {
    this.answers.forEach((answer) => answer.reset());
    this.problem.hidden = true;
    this.verdict.hidden = true;
    this.results.hidden = true;
    if (this.compares) this.answers[1].say("Waits for the other, so that they do not share the machine.");
  }

  leaveRest() {
    for (const answer of this.answers) {
      if (answer.state !== "waiting") continue;
      answer.enter("failed");
      answer.say(this.compares ? "Not asked." : "");
    }
  }

  fail(error) {
    const wait = error.status === 429 && error.retryAfter ? ` Try again in about ${error.retryAfter} s.` : "";
    this.problem.replaceChildren(el("p", { role: "alert", textContent: error.message + wait }), this.retryButton());
    this.problem.hidden = false;
  }

  offerAgain() {
    this.problem.replaceChildren(this.retryButton());
    this.problem.hidden = false;
  }

  // What came so far stays: where there is something, trying again is a branch.
  retryButton() {
    const button = el("button", { type: "button", className: "retry", textContent: "Try again" });
    button.addEventListener("click", () => (this.message ? this.actions.again(this) : this.actions.ask(this)));
    return button;
  }

  judge() {
    const [lookahead, plain] = this.answers;
    const same = JSON.stringify(contentOf(lookahead)) === JSON.stringify(contentOf(plain));
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

  get record() {
    return {
      id: this.id,
      parent: this.parent?.id ?? null,
      chosen: this.chosen?.id ?? null,
      input: this.input,
      mode: this.mode,
      sampling: this.sampling,
      answers: this.answers.map((answer) => answer.record),
    };
  }

  restore(answers) {
    this.answers.forEach((answer, index) => answers[index] && answer.restore(answers[index]));
    this.leaveRest();
    this.offerResults();
    if (this.answers.some((answer) => answer.state !== "done")) this.offerAgain();
  }
}

// Ids of calls are random, so they say nothing about whether two answers are the same.
function contentOf(answer) {
  return [answer.thinking.text, answer.content.text, answer.calls.records.map(({ name, text }) => [name, text])];
}

function linkButton(label, onClick, className) {
  const button = el("button", { type: "button", className: `link ${className}`, textContent: label });
  button.addEventListener("click", onClick);
  return button;
}
