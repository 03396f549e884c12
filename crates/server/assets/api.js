// The server's own API: requests, streams of events, the key, the model.

import { byId, memory } from "./dom.js";

export class ApiError extends Error {
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const KEY = "lookahead.key";
export let key = memory.read("sessionStorage", KEY);

export function setKey(value) {
  key = value;
  memory.write("sessionStorage", KEY, value);
  byId("key-state").hidden = !value;
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it running?");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  let message = `The server answered ${response.status} ${response.statusText}`.trim();
  try {
    message = (await response.json()).error.message || message;
  } catch {
    // No JSON: a proxy answered. Its status says enough.
  }
  return new ApiError(message, response.status, response.headers.get("Retry-After"));
}

async function* serverEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += decoder.decode(value, { stream: true });
      const lines = buffer.split(/\r?\n/);
      buffer = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export async function* completionChunks(body, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  try {
    for await (const data of serverEvents(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message);
      yield chunk;
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("The connection broke in the middle of the answer.");
  }
  throw new ApiError("The answer broke off before its end.");
}

export let model = null;

export async function loadModel() {
  const list = await (await request("/v1/models")).json();
  model = list.data[0];
  byId("model").textContent = model.id;
  const context = model.meta?.n_ctx_train;
  byId("model").title = context ? `${model.id}, context of ${context} tokens` : model.id;
}
