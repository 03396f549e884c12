// The text of an answer, token by token, each with its source.

import { el } from "./dom.js";

// Where an accepted draft can come from. The class `from-NAME` carries its colour and underline in style.css.
export const SOURCES = {
  prompt: ["prompt", "from this conversation"],
  output: ["earlier answer", "from an earlier answer"],
  corpus: ["corpus", "from an indexed corpus"],
  prediction: ["prediction", "sent with the request"],
  runners_up: ["runner-up", "an earlier second choice"],
  grammar: ["grammar", "all the grammar allows"],
};

// What a chunk's text is made of. A stop string or half a character can hold text back, so that tokens and text
// differ; the text is then what counts, and nothing is said of where it came from.
export function segmentsOf(content, trace) {
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

export class AnswerText {
  constructor(className = "text") {
    this.node = el("div", { className });
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
