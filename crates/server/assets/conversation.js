// A conversation is a tree of turns; the path to one of its leaves is what is shown and sent.

import { newId } from "./dom.js";
import { Turn } from "./turn.js";

const TITLE_CHARACTERS = 60;

export class Conversation {
  constructor({ id = newId(), title = "" } = {}) {
    this.id = id;
    this.title = title;
    this.turns = [];
    this.leaf = null;
    this.kept = true;
  }

  add(turn) {
    this.turns.push(turn);
    this.title ||= titleOf(turn.input);
    this.show(turn);
  }

  // Makes the path go through a turn, and on to where it was last left.
  show(turn) {
    for (let at = turn; at; at = at.parent) if (at.parent) at.parent.chosen = at;
    this.leaf = turn;
    while (this.leaf.chosen) this.leaf = this.leaf.chosen;
  }

  siblingsOf(turn) {
    return this.turns.filter((other) => other.parent === turn.parent);
  }

  pathTo(turn) {
    const path = [];
    for (let at = turn; at; at = at.parent) path.unshift(at);
    return path;
  }

  get path() {
    return this.pathTo(this.leaf);
  }

  requestFor(turn, system) {
    return withSystem([...historyOf(this.pathTo(turn.parent)), ...turn.input], system);
  }

  messages(system) {
    const messages = historyOf(this.path);
    const open = this.leaf && !this.leaf.message ? this.leaf.input.filter(isQuestion) : [];
    return withSystem([...messages, ...open], system);
  }

  get record() {
    return {
      id: this.id,
      title: this.title,
      leaf: this.leaf?.id ?? null,
      turns: this.turns.map((turn) => turn.record),
    };
  }

  // A parent comes before its children, as it was made before them; so there are no circles.
  static restore(record, actions) {
    const conversation = new Conversation({ id: String(record.id), title: String(record.title) });
    const byId = new Map();
    for (const saved of record.turns) {
      const turn = new Turn({ ...saved, parent: byId.get(saved.parent) ?? null }, actions);
      turn.restore(saved.answers);
      byId.set(turn.id, turn);
      conversation.turns.push(turn);
    }
    for (const saved of record.turns) {
      const chosen = byId.get(saved.chosen);
      if (chosen?.parent === byId.get(saved.id)) byId.get(saved.id).chosen = chosen;
    }
    conversation.leaf = byId.get(record.leaf) ?? conversation.turns.at(-1) ?? null;
    return conversation;
  }
}

const isQuestion = (message) => message.role === "user";
const isSystem = (message) => message?.role === "system" || message?.role === "developer";

// A question without an answer is left out; results of tools belong to the calls before them and stay.
function historyOf(path) {
  return path.flatMap((turn) => {
    const reply = turn.message;
    return reply ? [...turn.input, reply] : turn.input.filter((message) => !isQuestion(message));
  });
}

function withSystem(messages, system) {
  return system && !isSystem(messages[0]) ? [{ role: "system", content: system }, ...messages] : messages;
}

export function titleOf(messages) {
  const text = messages.find(isQuestion)?.content.trim() ?? "";
  const line = text.split("\n", 1)[0];
  return line.length > TITLE_CHARACTERS ? `${line.slice(0, TITLE_CHARACTERS - 1)}…` : line;
}
