// Files that go along with a question, as fenced text with their names.

import { byId, el } from "./dom.js";

const MOST_BYTES = 256 * 1024;
const MOST_FILES = 16;
const NAME_CHARACTERS = 120;

let attached = [];

const bytes = (size) => (size < 1024 ? `${size} B` : `${Math.ceil(size / 1024)} KiB`);

async function textOf(file) {
  if (file.size > MOST_BYTES) {
    throw new Error(`${file.name} is not attached: it has ${bytes(file.size)}, and ${bytes(MOST_BYTES)} is the most.`);
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} is not attached: it is no text in UTF-8.`);
  }
  if (text.includes("\0")) throw new Error(`${file.name} is not attached: it is binary.`);
  return text;
}

export async function attach(files) {
  const notes = [];
  for (const file of files) {
    try {
      const text = await textOf(file);
      if (attached.length >= MOST_FILES) {
        throw new Error(`${file.name} is not attached: ${MOST_FILES} files are the most.`);
      }
      attached.push({ name: file.name, text });
    } catch (error) {
      notes.push(error.message);
    }
  }
  show(notes.join(" "));
}

function show(note = "") {
  byId("attachments").replaceChildren(...attached.map((file) => {
    const label = `Remove ${file.name}`;
    const remove = el("button", { type: "button", className: "link", textContent: "×", "aria-label": label });
    remove.addEventListener("click", () => {
      attached = attached.filter((other) => other !== file);
      show();
      byId("question").focus();
    });
    return el("li", {}, el("span", { textContent: file.name }), remove);
  }));
  byId("attachments").hidden = attached.length === 0;
  byId("attach-note").textContent = note;
  byId("attach-note").hidden = !note;
}

// A fence is longer than any run of backticks within, so that a file cannot end it.
function fenced({ name, text }) {
  const longest = (text.match(/`+/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2);
  const fence = "`".repeat(longest + 1);
  const plain = name.replace(/[\p{C}`]/gu, "").slice(0, NAME_CHARACTERS);
  return `${plain}:\n${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
}

export const withAttachments = (question) => [question, ...attached.map(fenced)].filter(Boolean).join("\n\n");

export function forgetAttachments() {
  attached = [];
  show();
}
