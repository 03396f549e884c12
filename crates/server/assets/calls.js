// The calls of tools in an answer, also while their arguments stream in.

import { el } from "./dom.js";

const LONG_LINES = 12;
const LONG_CHARACTERS = 800;

class Call {
  constructor({ id = "", name = "", text = "" } = {}) {
    this.id = id;
    this.name = name;
    this.text = text;
    this.summary = el("summary");
    this.arguments = el("pre", { tabIndex: 0, textContent: text });
    this.node = el("details", { className: "call", open: true }, this.summary, this.arguments);
    this.showName();
  }

  showName() {
    this.summary.replaceChildren("Calls ", el("code", { textContent: this.name || "…" }));
    this.arguments.setAttribute("aria-label", `Arguments of ${this.name || "the call"}`);
  }

  take({ id, function: part = {} }) {
    this.id ||= id ?? "";
    if (part.name) {
      this.name += part.name;
      this.showName();
    }
    if (part.arguments) {
      this.text += part.arguments;
      this.arguments.append(part.arguments);
    }
  }

  get isComplete() {
    try {
      return Boolean(this.name) && typeof JSON.parse(this.text || "{}") === "object";
    } catch {
      return false;
    }
  }

  finish() {
    if (this.isComplete) this.arguments.textContent = JSON.stringify(JSON.parse(this.text || "{}"), null, 2);
    else this.summary.append(" (unfinished)");
    const shown = this.arguments.textContent;
    this.node.open = shown.length <= LONG_CHARACTERS && shown.split("\n").length <= LONG_LINES;
  }

  get message() {
    return { id: this.id, type: "function", function: { name: this.name, arguments: this.text || "{}" } };
  }
}

export class Calls {
  constructor() {
    this.node = el("div", { className: "calls" });
    this.clear();
  }

  clear() {
    this.byIndex = new Map();
    this.node.replaceChildren();
  }

  take(pieces) {
    for (const piece of pieces) {
      const index = piece.index ?? 0;
      if (!this.byIndex.has(index)) this.add(index, new Call());
      this.byIndex.get(index).take(piece);
    }
  }

  add(index, call) {
    this.byIndex.set(index, call);
    this.node.append(call.node);
  }

  finish() {
    for (const call of this.byIndex.values()) call.finish();
  }

  // A call that was cut off is shown, but is no part of the history: nobody can answer it.
  get messages() {
    return [...this.byIndex.values()].filter((call) => call.isComplete).map((call) => call.message);
  }

  get records() {
    return [...this.byIndex.values()].map(({ id, name, text }) => ({ id, name, text }));
  }

  restore(records) {
    records.forEach((record, index) => this.add(index, new Call(record)));
    this.finish();
  }

  nameOf(id) {
    return [...this.byIndex.values()].find((call) => call.id === id)?.name;
  }
}
