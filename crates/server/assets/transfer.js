// Conversations as files: OpenAI's messages as JSON, out and in, and Markdown for people.

import { el } from "./dom.js";

const MOST_BYTES = 4_000_000;
const MOST_MESSAGES = 2000;
const ROLES = ["system", "developer", "user", "assistant", "tool"];

export function toJson(title, messages) {
  return `${JSON.stringify({ title, messages }, null, 2)}\n`;
}

const HEADINGS = { system: "System", developer: "System", user: "You", assistant: "Answer", tool: "Result of a tool" };

export function toMarkdown(title, messages) {
  return `${[`# ${title}`, ...messages.flatMap(sectionOf)].join("\n\n")}\n`;
}

function sectionOf({ role, content, reasoning_content: thought, tool_calls: calls = [] }) {
  const parts = [`## ${HEADINGS[role]}`];
  if (thought) parts.push(thought.trim().split("\n").map((line) => `> ${line}`.trimEnd()).join("\n"));
  if (content) parts.push(role === "tool" ? fenced(content) : content.trim());
  for (const { function: { name, arguments: given } } of calls) parts.push(`Calls \`${name}\`:`, fenced(given, "json"));
  return parts;
}

function fenced(text, language = "") {
  const longest = (text.match(/`+/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2);
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}

export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  // The browser reads the file after the click returns.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A title, and the turns: what was said, and the reply to it or null. Throws what a person can read.
export async function readExport(file) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} has more than ${MOST_BYTES / 1e6} MB.`);
  let data;
  try {
    data = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is no JSON.`);
  }
  const messages = Array.isArray(data) ? data : data?.messages;
  if (!Array.isArray(messages) || messages.length === 0) throw new Error(`${file.name} has no messages.`);
  if (messages.length > MOST_MESSAGES) throw new Error(`${file.name} has more than ${MOST_MESSAGES} messages.`);
  const title = typeof data.title === "string" ? data.title.slice(0, 200) : "";
  return { title, turns: turnsOf(messages.map(checked)) };
}

function turnsOf(messages) {
  const turns = [];
  let input = [];
  for (const message of messages) {
    if (message.role !== "assistant") {
      input.push(message);
      continue;
    }
    turns.push({ input, reply: message });
    input = [];
  }
  if (input.length) turns.push({ input, reply: null });
  return turns;
}

function checked(message, index) {
  const refuse = (why) => {
    throw new Error(`Message ${index + 1} ${why}.`);
  };
  const role = message?.role;
  if (!ROLES.includes(role)) refuse(`has none of the roles ${ROLES.join(", ")}`);
  const clean = { role, content: textOf(message.content, refuse) };
  if (role === "tool") clean.tool_call_id = String(message.tool_call_id ?? "");
  if (role !== "assistant") return clean;
  if (typeof message.reasoning_content === "string") clean.reasoning_content = message.reasoning_content;
  if (Array.isArray(message.tool_calls)) clean.tool_calls = message.tool_calls.map((call) => checkedCall(call, refuse));
  return clean;
}

function textOf(content, refuse) {
  if (content === null || content === undefined) return "";
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) refuse("has a content that is no text");
  return content.map((part) => {
    if (part?.type !== "text" || typeof part.text !== "string") refuse("has a part that is no text");
    return part.text;
  }).join("");
}

function checkedCall(call, refuse) {
  const { name, arguments: given = "{}" } = call?.function ?? {};
  if (typeof name !== "string") refuse("has a call without a name");
  return { id: String(call.id ?? ""), name, text: typeof given === "string" ? given : JSON.stringify(given) };
}
