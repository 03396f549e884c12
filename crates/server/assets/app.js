// The chat page: talks to this server's own API and shows how each token came about.
// No framework and no build step; text of models and files only ever becomes text nodes.

import { loadModel } from "./api.js";
import { attach, forgetAttachments, withAttachments } from "./attachments.js";
import { exportChat, importChat, keepAll, newChat, openChat, removeChat, removeChats, send, stop } from "./chat.js";
import { startChats } from "./chats.js";
import { byId, el } from "./dom.js";
import { askForKey, useKey } from "./key.js";
import { trends } from "./plots.js";
import { onScroll } from "./scroll.js";
import { startSettings } from "./settings.js";
import { SOURCES } from "./text.js";

const SAMPLES = [
  "Explain in two sentences why the sky is blue.",
  "Write a Python function that tests whether a word is a palindrome, with tests.",
  "List the planets of the solar system with one fact about each.",
];

async function firstLoad() {
  try {
    await loadModel();
  } catch (error) {
    byId("model").textContent = "no model";
    byId("model").title = error.message;
    if (error.status === 401) askForKey(error, firstLoad);
  }
}

function fillLegend() {
  byId("legend").append(el("li", {},
    el("span", { textContent: "plain" }), el("small", { textContent: "the model’s own token" })));
  for (const [source, [label, meaning]] of Object.entries(SOURCES)) {
    byId("legend").append(el("li", {},
      el("span", { className: `token from-${source}`, textContent: label }), el("small", { textContent: meaning })));
  }
}

function fillSamples() {
  for (const sample of SAMPLES) {
    const button = el("button", { type: "button", textContent: sample });
    button.addEventListener("click", () => send(sample));
    byId("samples").append(el("li", {}, button));
  }
}

function fitQuestion() {
  const box = byId("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

// Files alone are a question, too. They stay attached where it could not be sent.
function submitQuestion(event) {
  event.preventDefault();
  const box = byId("question");
  if (!send(withAttachments(box.value.trim()))) return;
  box.value = "";
  forgetAttachments();
  fitQuestion();
  box.focus();
}

function onQuestionKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
}

function showInsights(shown) {
  byId("insights").hidden = !shown;
  document.body.classList.toggle("without-insights", !shown);
  byId("toggle-insights").setAttribute("aria-expanded", String(shown));
}

function listen() {
  byId("composer").addEventListener("submit", submitQuestion);
  byId("question").addEventListener("keydown", onQuestionKey);
  byId("question").addEventListener("input", fitQuestion);
  byId("stop").addEventListener("click", stop);
  byId("new-chat").addEventListener("click", newChat);
  byId("key-form").addEventListener("submit", useKey);
  byId("toggle-insights").addEventListener("click", () => showInsights(byId("insights").hidden));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("settings").open) stop();
  });
  byId("scroller").addEventListener("scroll", onScroll);
  addEventListener("pagehide", keepAll);
  listenToFiles();
}

function listenToFiles() {
  byId("export-json").addEventListener("click", () => exportChat("json"));
  byId("export-markdown").addEventListener("click", () => exportChat("markdown"));
  choose("import-chat", "import-file", ([file]) => importChat(file));
  choose("attach", "attach-files", attach);
  document.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    attach([...event.dataTransfer.files]);
  });
}

// A button opens the browser's chooser; the same file can be chosen twice.
function choose(button, input, take) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", () => {
    const files = [...byId(input).files];
    byId(input).value = "";
    if (files.length) take(files);
    byId("question").focus();
  });
}

startSettings();
fillLegend();
fillSamples();
trends.start();
showInsights(matchMedia("(min-width: 60rem)").matches);
startChats({ open: openChat, remove: removeChat, clear: removeChats });
listen();
firstLoad();
