// The conversation on the page: questions go out, answers stream in, branches are shown, all is kept.

import { announcer } from "./announcer.js";
import { ApiError, completionChunks, loadModel, model } from "./api.js";
import { drawChats } from "./chats.js";
import { Conversation, titleOf } from "./conversation.js";
import { byId, soon } from "./dom.js";
import { askForKey } from "./key.js";
import { follow } from "./scroll.js";
import { keepsConversations, mode, sampling, settingsAreValid, systemPrompt, tools } from "./settings.js";
import { deleteConversation, deleteConversations, loadConversation, saveConversation } from "./store.js";
import { download, readExport, toJson, toMarkdown } from "./transfer.js";
import { Turn } from "./turn.js";

let conversation = new Conversation();
let running = null;

const actions = {
  ask,
  edit: (turn, input) => begin(input, turn.parent),
  again: (turn) => begin(turn.input, turn.parent),
  answerCalls: (turn, input) => begin(input, turn),
  branch: switchBranch,
};

// ---------------------------------------------------------------- asking

export function send(question) {
  if (running || !question.trim()) return false;
  const results = conversation.leaf?.typedResults ?? [];
  return begin([...results, { role: "user", content: question.trim() }], conversation.leaf);
}

function begin(input, parent) {
  if (!settingsAreValid()) return false;
  interrupt();
  const turn = new Turn({ parent, input, mode: mode(), sampling: sampling() }, actions);
  const continues = parent === conversation.leaf;
  conversation.add(turn);
  if (continues) appendTurn(turn);
  else showPath();
  follow(true);
  byId("question").focus();
  ask(turn);
  return true;
}

function bodyOf(chat, turn, answer) {
  const offered = tools();
  return {
    model: model.id,
    messages: chat.requestFor(turn, systemPrompt()),
    stream: true,
    stream_options: { include_usage: true },
    ...(offered && { tools: offered }),
    ...turn.sampling,
    lookahead: { enabled: answer.decoding === "lookahead", trace: true },
  };
}

async function ask(turn) {
  if (running || !conversation.turns.includes(turn)) return;
  const chat = conversation;
  const controller = new AbortController();
  setRunning(controller);
  turn.reset();
  keep(chat);
  announcer.finish("Answering");
  try {
    if (!model) await loadModel();
    for (const answer of turn.answers) await stream(chat, turn, answer, controller.signal);
    announcer.finish(turn.compares ? turn.judge() : turn.calls.map((call) => `Calls ${call.function.name}.`).join(" "));
  } catch (error) {
    if (controller.signal.aborted) endStopped(turn);
    else fail(turn, error);
  } finally {
    turn.offerResults();
    keep(chat);
    if (running === controller) setRunning(null);
    follow();
  }
}

async function stream(chat, turn, answer, signal) {
  const body = bodyOf(chat, turn, answer);
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

function endStopped(turn) {
  announcer.finish("Stopped.");
  turn.leaveRest();
  turn.offerAgain();
}

function fail(turn, error) {
  announcer.finish("");
  if (!(error instanceof ApiError)) console.error(error);
  turn.leaveRest();
  turn.fail(error);
  if (error.status === 401) askForKey(error, () => ask(turn));
}

export function stop() {
  running?.abort();
}

// The answer under way ends by itself, and is kept with its own conversation.
function interrupt() {
  stop();
  setRunning(null);
}

function setRunning(controller) {
  running = controller;
  const stopHadFocus = document.activeElement === byId("stop");
  byId("stop").hidden = !controller;
  byId("send").hidden = Boolean(controller);
  if (stopHadFocus && !controller) byId("question").focus();
}

// ---------------------------------------------------------------- showing

function appendTurn(turn) {
  byId("welcome").hidden = true;
  byId("turns").append(turn.node);
  showBranches(turn);
}

function showBranches(turn) {
  const siblings = conversation.siblingsOf(turn);
  turn.showBranches(siblings.indexOf(turn), siblings.length);
}

function showPath() {
  const { path } = conversation;
  byId("turns").replaceChildren(...path.map((turn) => turn.node));
  byId("welcome").hidden = path.length > 0;
  path.forEach(showBranches);
}

function switchBranch(turn, by) {
  const siblings = conversation.siblingsOf(turn);
  const other = siblings[siblings.indexOf(turn) + by];
  interrupt();
  conversation.show(other);
  showPath();
  keep(conversation);
  const wanted = other.branches.querySelector(by < 0 ? ".previous" : ".next");
  (wanted.disabled ? other.branches.querySelector("button:enabled") : wanted).focus();
}

function showConversation(next) {
  interrupt();
  conversation = next;
  showPath();
  drawChats(next.id);
  follow(true);
  byId("question").focus();
}

export const newChat = () => showConversation(new Conversation());

// ---------------------------------------------------------------- keeping

function say(note) {
  byId("chat-note").textContent = note;
  byId("chat-note").hidden = !note;
}

function keep(chat) {
  if (!chat.kept || !keepsConversations() || chat.turns.length === 0) return;
  say(saveConversation(chat.record));
  drawChats(conversation.id);
}

// The page is left in the middle of an answer: what came so far stays.
export function keepAll() {
  if (running) keep(conversation);
}

export function openChat(id) {
  if (id === conversation.id) return;
  try {
    showConversation(Conversation.restore(loadConversation(id), actions));
    say("");
  } catch (error) {
    console.warn(error);
    say("This conversation cannot be read. It was written by another version, or is damaged.");
  }
}

export function removeChat(id) {
  deleteConversation(id);
  if (id === conversation.id) leave();
  drawChats(conversation.id);
}

export function removeChats() {
  leave();
  deleteConversations();
  drawChats(conversation.id);
}

// An answer that still streams must not bring its deleted conversation back.
function leave() {
  conversation.kept = false;
  newChat();
  say("");
}

// ---------------------------------------------------------------- files

export function exportChat(kind) {
  const messages = conversation.messages(systemPrompt());
  if (!conversation.leaf) return say("There is nothing to export yet.");
  const title = conversation.title || "Conversation";
  if (kind === "json") download("conversation.json", "application/json", toJson(title, messages));
  else download("conversation.md", "text/markdown", toMarkdown(title, messages));
}

export async function importChat(file) {
  try {
    const { title, turns } = await readExport(file);
    const chat = new Conversation({ title: title || titleOf(turns[0].input) });
    for (const { input, reply } of turns) chat.add(importedTurn(input, reply, chat.leaf));
    showConversation(chat);
    say("");
    keep(chat);
  } catch (error) {
    say(`Not imported: ${error.message}`);
  }
}

function importedTurn(input, reply, parent) {
  const decoding = mode() === "plain" ? "plain" : "lookahead";
  const turn = new Turn({ parent, input, mode: decoding, sampling: sampling() }, actions);
  turn.restore([reply
    ? { state: "done", text: reply.content, thinking: reply.reasoning_content, calls: reply.tool_calls }
    : { state: "failed" }]);
  return turn;
}
