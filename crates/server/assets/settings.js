// What a person chose: how to decode and sample, the system prompt, tools, and whether conversations are kept.

import { key, setKey } from "./api.js";
import { byId, memory } from "./dom.js";

const SETTINGS = "lookahead.settings";
const SAMPLING_FIELDS = ["temperature", "top_p", "seed", "max_tokens"];
const FIELDS = ["system", "tools", ...SAMPLING_FIELDS];

const form = () => byId("settings-form").elements;

export const mode = () => document.querySelector("#modes input:checked").value;
export const systemPrompt = () => form().system.value.trim();
export const keepsConversations = () => form().keep.checked;

export function sampling() {
  const chosen = {};
  for (const name of SAMPLING_FIELDS) {
    if (form()[name].value !== "") chosen[name] = form()[name].valueAsNumber;
  }
  // Two samples are the same text only from the same seed.
  if (mode() === "both") chosen.seed ??= crypto.getRandomValues(new Uint32Array(1))[0];
  return chosen;
}

// The definitions of tools that a person pasted, or null.
export function tools() {
  const text = form().tools.value.trim();
  if (!text) return null;
  const definitions = JSON.parse(text);
  const isDefinition = (tool) => typeof tool === "object" && tool !== null && !Array.isArray(tool);
  if (!Array.isArray(definitions) || !definitions.every(isDefinition)) throw new Error("no array of definitions");
  return definitions.length ? definitions : null;
}

function checkTools() {
  let problem = "";
  try {
    tools();
  } catch (error) {
    problem = `Tools are a JSON array of definitions, as OpenAI's API has them: ${error.message}.`;
  }
  form().tools.setCustomValidity(problem);
}

// Shows the settings where one of them cannot be sent.
export function settingsAreValid() {
  checkTools();
  if (byId("settings-form").checkValidity()) return true;
  openSettings();
  byId("settings-form").reportValidity();
  return false;
}

function save() {
  checkTools();
  const saved = { mode: mode(), colours: byId("colours").checked, keep: keepsConversations() };
  for (const name of FIELDS) saved[name] = form()[name].value;
  memory.write("localStorage", SETTINGS, JSON.stringify(saved));
}

function restore() {
  let saved = {};
  try {
    saved = JSON.parse(memory.read("localStorage", SETTINGS)) ?? {};
  } catch {
    // Written by something else: start afresh.
  }
  for (const name of FIELDS) form()[name].value = saved[name] ?? "";
  form().keep.checked = saved.keep ?? true;
  byId("colours").checked = saved.colours ?? true;
  const chosen = document.querySelector(`#modes input[value="${CSS.escape(saved.mode ?? "lookahead")}"]`);
  if (chosen) chosen.checked = true;
  checkTools();
  showColours();
}

function showColours() {
  document.body.classList.toggle("colours", byId("colours").checked);
}

function openSettings() {
  byId("key-state").hidden = !key;
  byId("settings").showModal();
}

export function startSettings() {
  restore();
  byId("modes").addEventListener("change", save);
  byId("colours").addEventListener("change", () => (showColours(), save()));
  byId("open-settings").addEventListener("click", openSettings);
  byId("settings-form").addEventListener("input", save);
  byId("forget-key").addEventListener("click", () => setKey(null));
  byId("reset-settings").addEventListener("click", () => {
    byId("settings-form").reset();
    save();
  });
}
