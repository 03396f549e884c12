// A screen reader gets whole sentences, and not more often than it can speak them.

import { byId } from "./dom.js";

const ANNOUNCE_EVERY_MS = 4000;

export const announcer = {
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
