// Conversations in this browser's localStorage, one entry each, and an index. Nothing leaves the browser.

const INDEX = "lookahead.conversations";
const PREFIX = "lookahead.conversation.";
const MOST_CONVERSATIONS = 500;
// Browsers give a site some five million characters; settings need a few of them.
const MOST_CHARACTERS = 4_500_000;

const FULL = "This conversation is not kept: no room is left in the browser. Export it, or delete others.";

export const isIndex = (key) => key === INDEX || key === null;

export function listConversations() {
  try {
    const entries = JSON.parse(localStorage.getItem(INDEX)) ?? [];
    return entries.filter((entry) => typeof entry.id === "string" && typeof entry.title === "string");
  } catch {
    return [];
  }
}

// The record of a conversation, or null where it is gone or cannot be read.
export function loadConversation(id) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + id));
  } catch {
    return null;
  }
}

// Answers with a note on why a conversation is not kept, or with "".
export function saveConversation(record) {
  const text = JSON.stringify(record);
  const others = listConversations().filter((entry) => entry.id !== record.id);
  const size = others.reduce((sum, entry) => sum + (entry.size || 0), text.length);
  if (others.length >= MOST_CONVERSATIONS || size > MOST_CHARACTERS) return FULL;
  try {
    localStorage.setItem(PREFIX + record.id, text);
    writeIndex([{ id: record.id, title: record.title, size: text.length }, ...others]);
    return "";
  } catch (error) {
    return error.name === "QuotaExceededError" ? FULL : "Conversations are not kept: the browser forbids it.";
  }
}

export function deleteConversation(id) {
  try {
    localStorage.removeItem(PREFIX + id);
    writeIndex(listConversations().filter((entry) => entry.id !== id));
  } catch {
    // Where nothing can be stored, nothing is.
  }
}

export function deleteConversations() {
  try {
    const keys = Object.keys(localStorage).filter((key) => key === INDEX || key.startsWith(PREFIX));
    keys.forEach((key) => localStorage.removeItem(key));
  } catch {
    // Where nothing can be stored, nothing is.
  }
}

function writeIndex(entries) {
  localStorage.setItem(INDEX, JSON.stringify(entries));
}
