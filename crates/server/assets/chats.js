// The list of conversations at the side.

import { byId, el, memory } from "./dom.js";
import { isIndex, listConversations } from "./store.js";

const SHOWN = "lookahead.chats";

let current = null;
let actions = null;

// `actions`: open and remove take an id, clear takes none.
export function startChats(given) {
  actions = given;
  byId("delete-chats").addEventListener("click", () => {
    if (!confirm("Delete all conversations that this browser keeps?")) return;
    actions.clear();
    byId("question").focus();
  });
  byId("toggle-chats").addEventListener("click", () => showChats(byId("chats").hidden));
  // Another tab of the page has written.
  addEventListener("storage", (event) => isIndex(event.key) && drawChats());
  const wide = matchMedia("(min-width: 75rem)").matches;
  showChats(wide && memory.read("localStorage", SHOWN) !== "no", false);
  drawChats();
}

function showChats(shown, chosen = true) {
  byId("chats").hidden = !shown;
  document.body.classList.toggle("without-chats", !shown);
  byId("toggle-chats").setAttribute("aria-expanded", String(shown));
  if (chosen) memory.write("localStorage", SHOWN, shown ? "yes" : "no");
}

export function drawChats(id = current) {
  current = id;
  const entries = listConversations();
  byId("chat-list").replaceChildren(...entries.map(entryOf));
  byId("no-chats").hidden = entries.length > 0;
  byId("delete-chats").disabled = entries.length === 0;
}

function entryOf({ id, title }) {
  const name = title || "Untitled";
  const open = el("button", { type: "button", className: "open-chat", textContent: name, title: name });
  if (id === current) open.setAttribute("aria-current", "true");
  open.addEventListener("click", () => actions.open(id));
  const remove = el("button", { type: "button", className: "link", textContent: "×", "aria-label": `Delete ${name}` });
  remove.addEventListener("click", () => {
    if (!confirm(`Delete “${name}”?`)) return;
    actions.remove(id);
    byId("question").focus();
  });
  return el("li", {}, open, remove);
}
