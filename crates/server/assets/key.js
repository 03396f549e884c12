// Asks for the API key of a server that wants one.

import { key, setKey } from "./api.js";
import { byId } from "./dom.js";

let afterKey = null;

export function askForKey(error, then) {
  byId("key-note").textContent = key
    ? `The server refused this key: ${error.message}`
    : "This server asks for a key. It is kept until this tab closes.";
  setKey(null);
  afterKey = then;
  byId("key-form").hidden = false;
  byId("key").value = "";
  byId("key").focus();
}

export function useKey(event) {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key-form").hidden = true;
  byId("question").focus();
  afterKey?.();
}
