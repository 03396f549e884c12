// Serves the real pages and plays the server's API, with answers that a test can foresee.
// As a program (`node mock.mjs [PORT]`) it lets one work on the pages without a model.
//
// Words in the last question choose what happens: "slow" (an answer that takes many seconds), "html", "code", "held"
// (texts that differ from their tokens), "every" (every source of drafts), "busy" (429), "break" (the connection ends
// in the middle), "differ" (plain gives another text), "mid" (an error in the middle), "think" (thinking first), "split"
// (steps of two chunks), "weather" (calls, where tools are offered; "unfinished": one that is cut off).

import { createServer } from "node:http";
import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

const ASSETS = new URL("../../crates/server/assets/", import.meta.url);
const KINDS = { html: "text/html", js: "text/javascript", css: "text/css" };
const PAGES = { "/": "index.html", "/docs": "docs.html" };
for (const file of await readdir(ASSETS)) PAGES[`/assets/${file}`] = file;

// As strict as the server's own.
const POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
  + "frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

export const MODEL = "Mock-135M.Q4_1";
const SOURCES = ["prompt", "output", "corpus", "prediction", "runners_up", "grammar"];
const STEP_MS = 15;

const TEXTS = {
  html: "Write <b>bold</b> and <img src=x onerror=\"document.title='owned'\"> and <script>alert(1)</script> so. "
    + "<i>One</i> <u>two</u> <s>three</s> <em>four</em> <hr> <h1>five</h1>",
  code: "Here it is:\n\n```python\ndef is_palindrome(word):\n    return word == word[::-1]\n```\n\nThe slice reads the word from its end.",
  usual: "The sky is blue because air scatters the short waves of sunlight far more than the long ones. Blue light is "
    + "scattered in all directions and reaches our eyes from everywhere, while red light mostly passes straight through. "
    + "At sunset the light takes a longer way through the air, so that most of the blue is gone and the sky turns red.",
};

const THOUGHTS = "The user asks for <b>blue</b>. Rayleigh scattering is the reason; say it in three sentences.";
export const THOUGHT_TOKENS = 40;
// Of the second call, the arguments are long.
const CALLS = [
  { name: "get_weather", arguments: { city: "Zürich", note: "<img src=x onerror=\"document.title='owned'\">" } },
  { name: "plan", arguments: { steps: Array.from({ length: 20 }, (_, index) => `step ${index}`) } },
];

// Whole tags are tokens of their own, so that HTML would have its effect if a token ever became markup.
const tokensOf = (text) => text.match(/\s*<\/?\w[^>]*>|\s*\w+|\s*[^\w\s]|\s+/g);

function textFor(question, enabled) {
  if (question.includes("html")) return TEXTS.html;
  if (question.includes("code") || question.includes("Python")) return TEXTS.code;
  if (question.includes("slow")) return TEXTS.usual.repeat(20);
  return TEXTS.usual + (question.includes("differ") && !enabled ? " Or so." : "");
}

// Passes of one to four tokens: the model's own comes last, after the drafts that it accepted.
function stepsOf(tokens, enabled, question) {
  if (!enabled) return tokens.map((text) => ({ drafted: 0, accepted: 0, tokens: [{ text, source: "model" }] }));
  const usual = question.includes("every") ? SOURCES : ["prompt", "output", "output", "runners_up"];
  const steps = [];
  for (let at = 0; at < tokens.length; ) {
    const size = steps.length === 0 ? 1 : [1, 3, 2, 4, 3][steps.length % 5];
    const texts = tokens.slice(at, at + size);
    const source = usual[steps.length % usual.length];
    const last = texts.length - 1;
    steps.push({
      drafted: steps.length === 0 ? 0 : last + 2,
      accepted: last,
      tokens: texts.map((text, index) => ({ text, source: index < last ? source : "model" })),
    });
    at += size;
  }
  return steps;
}

function usageOf(steps, promptTokens) {
  const completion = steps.reduce((sum, step) => sum + step.tokens.length, 0);
  const bySource = Object.fromEntries(SOURCES.map((source) => [source, 0]));
  for (const { tokens } of steps) for (const { source } of tokens) if (source in bySource) bySource[source] += 1;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completion,
    total_tokens: promptTokens + completion,
    lookahead: {
      steps: steps.length,
      edl: completion / steps.length,
      drafted: steps.reduce((sum, step) => sum + step.drafted, 0),
      accepted: steps.reduce((sum, step) => sum + step.accepted, 0),
      accepted_by_source: bySource,
    },
  };
}

const chunkOf = (delta, finish = null, more = {}) => ({
  id: "chatcmpl-mock",
  object: "chat.completion.chunk",
  created: 1700000000,
  model: MODEL,
  choices: [{ index: 0, delta, finish_reason: finish }],
  ...more,
});

async function streamAnswer(request, response, mock) {
  const { question, enabled } = request;
  const tokens = tokensOf(textFor(question, enabled)).slice(0, request.max_tokens);
  const steps = stepsOf(tokens, enabled, question);
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const write = (event) => response.write(`data: ${JSON.stringify(event)}\n\n`);
  write(chunkOf({ role: "assistant", content: "" }));
  const thoughts = question.includes("think") ? stepsOf(tokensOf(THOUGHTS), enabled, question) : [];
  for (const step of thoughts) {
    await sleep(question.includes("slow") ? 60 : STEP_MS);
    if (response.destroyed) return void (mock.cut += 1);
    const thought = step.tokens.map((token) => token.text).join("");
    write(chunkOf({ reasoning_content: thought, reasoning: thought }, null, { lookahead: step }));
  }
  for (const [index, step] of steps.entries()) {
    await sleep(question.includes("slow") ? 60 : STEP_MS);
    if (response.destroyed) return void (mock.cut += 1);
    if (index === 3 && question.includes("break")) return void response.destroy();
    if (index === 3 && question.includes("mid")) return void response.end(`data: ${JSON.stringify(errorOf("The model failed.", "server_error"))}\n\n`);
    const joined = step.tokens.map((token) => token.text).join("");
    const content = question.includes("held") && index === 2 ? `${joined.slice(0, -1)}—` : joined;
    const half = question.includes("split") ? Math.ceil(content.length / 2) : content.length;
    write(chunkOf({ content: content.slice(0, half) }, null, request.lookahead?.trace ? { lookahead: step } : {}));
    if (half < content.length) write(chunkOf({ content: content.slice(half) }));
  }
  const calls = request.tools && question.includes("weather");
  if (calls) await streamCalls(question, write);
  const cut = tokens.length === request.max_tokens || question.includes("unfinished");
  write(chunkOf({}, cut ? "length" : calls ? "tool_calls" : "stop"));
  const usage = usageOf([...thoughts, ...steps], 12);
  // The marks around thinking are tokens, too.
  if (thoughts.length) usage.completion_tokens_details = { reasoning_tokens: THOUGHT_TOKENS };
  if (request.stream_options?.include_usage) write({ ...chunkOf({}), choices: [], usage });
  response.end("data: [DONE]\n\n");
}

async function streamCalls(question, write) {
  for (const [index, { name, arguments: given }] of CALLS.entries()) {
    write(chunkOf({ tool_calls: [{ index, id: `call_${index}`, type: "function", function: { name, arguments: "" } }] }));
    let pieces = JSON.stringify(given).match(/.{1,12}/gs);
    if (question.includes("unfinished") && index === 1) pieces = pieces.slice(0, 5);
    for (const piece of pieces) {
      await sleep(STEP_MS);
      write(chunkOf({ tool_calls: [{ index, function: { arguments: piece } }] }));
    }
  }
}

const errorOf = (message, type, code = null) => ({ error: { message, type, param: null, code } });

function json(response, status, body, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString("utf8"));
}

async function chat(request, response, mock) {
  const body = await bodyOf(request);
  mock.requests.push(body);
  const question = body.messages.at(-1).content;
  if (question.includes("busy") && !mock.freed) {
    mock.freed = true;
    return json(response, 429, errorOf("Too many requests wait already.", "rate_limit_error", "queue_full"), { "Retry-After": "2" });
  }
  return streamAnswer({ ...body, question, enabled: body.lookahead?.enabled !== false }, response, mock);
}

async function servePage(path, response) {
  const file = PAGES[path];
  const kind = KINDS[file.split(".").at(-1)];
  const type = kind ? `${kind}; charset=utf-8` : "image/svg+xml";
  response.writeHead(200, { "Content-Type": type, "Content-Security-Policy": POLICY });
  response.end(await readFile(new URL(file, ASSETS)));
}

function authorised(request, mock) {
  return !mock.key || request.headers.authorization === `Bearer ${mock.key}`;
}

async function handle(request, response, mock) {
  const { pathname } = new URL(request.url, "http://mock");
  if (pathname in PAGES) return servePage(pathname, response);
  if (pathname === "/openapi.json") return json(response, 200, OPENAPI);
  if (!authorised(request, mock)) {
    return json(response, 401, errorOf("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"));
  }
  if (pathname === "/v1/models") {
    const model = { id: MODEL, object: "model", created: 1700000000, owned_by: "lookahead", meta: { n_ctx_train: 2048 } };
    return json(response, 200, { object: "list", data: [model] });
  }
  if (pathname === "/v1/chat/completions") return chat(request, response, mock);
  return json(response, 404, errorOf(`No ${pathname} here.`, "invalid_request_error"));
}

export function startMock({ key = null, port = 0 } = {}) {
  const mock = { key, requests: [], freed: false, cut: 0 };
  const server = createServer((request, response) => handle(request, response, mock).catch((error) => response.destroy(error)));
  mock.close = () => new Promise((done) => (server.close(done), server.closeAllConnections()));
  return new Promise((started) => server.listen(port, "127.0.0.1", () => {
    mock.url = `http://127.0.0.1:${server.address().port}`;
    started(mock);
  }));
}

// Small, but with all that makes a reference hard to render: references, alternatives, allOf and a schema in itself.
const OPENAPI = {
  openapi: "3.1.0",
  info: { title: "Lookahead", version: "0.0.0", description: "A **mock** of the API.\n\n- Errors are `{\"error\": …}`.\n- <b>No HTML</b>, [not even](javascript:alert(1)) here." },
  tags: [{ name: "Chat", description: "Answers to conversations." }, { name: "Corpora" }],
  security: [{ bearer: [] }],
  paths: {
    "/v1/chat/completions": {
      post: {
        operationId: "createChatCompletion", tags: ["Chat"], summary: "Answer a conversation",
        description: "Streams with `stream`.",
        requestBody: { required: true, content: { "application/json": {
          schema: { $ref: "#/components/schemas/ChatRequest" },
          example: { model: MODEL, messages: [{ role: "user", content: "What's blue?" }], stream: true },
        } } },
        responses: {
          200: { description: "The answer.", content: { "application/json": { schema: { $ref: "#/components/schemas/Answer" } } } },
          429: { $ref: "#/components/responses/Busy" },
        },
      },
    },
    "/v1/lookahead/corpora/{name}": {
      parameters: [{ name: "name", in: "path", required: true, schema: { type: "string", example: "manual" }, description: "Which corpus." }],
      delete: {
        operationId: "deleteCorpus", tags: ["Corpora"], summary: "Forget a corpus",
        parameters: [{ $ref: "#/components/parameters/Namespace" }],
        responses: { 204: { description: "Forgotten." } },
      },
    },
    "/health": { get: { tags: ["Other"], summary: "Whether the server serves", security: [], responses: { 200: { description: "It does." } } } },
  },
  components: {
    parameters: { Namespace: { name: "namespace", in: "query", schema: { type: "string", maxLength: 64 }, description: "Part of the key's own namespace." } },
    responses: { Busy: { description: "The queue is full.", headers: { "Retry-After": { schema: { type: "integer" }, description: "Seconds to wait." } },
      content: { "application/json": { schema: { $ref: "#/components/schemas/Error" }, example: errorOf("Too many requests.", "rate_limit_error") } } } },
    schemas: {
      ChatRequest: { type: "object", required: ["model", "messages"], properties: {
        model: { type: "string", description: "A model of `/v1/models`." },
        messages: { type: "array", minItems: 1, items: { $ref: "#/components/schemas/Message" } },
        temperature: { type: ["number", "null"], minimum: 0, maximum: 2, default: 1 },
        stop: { oneOf: [{ type: "string" }, { type: "array", items: { type: "string" } }] },
        lookahead: { $ref: "#/components/schemas/Lookahead", description: "How to draft." },
      } },
      Message: { type: "object", required: ["role", "content"], properties: {
        role: { enum: ["system", "user", "assistant"] }, content: { type: "string" },
        replies: { type: "array", items: { $ref: "#/components/schemas/Message" } },
      } },
      Lookahead: { allOf: [
        { type: "object", properties: { enabled: { type: "boolean", default: true } } },
        { type: "object", properties: { share: { enum: ["readwrite", "read", "off"], default: "readwrite" } } },
      ] },
      Json: { oneOf: [{ type: "string" }, { type: "array", items: { $ref: "#/components/schemas/Json" } }] },
      Answer: { type: "object", properties: { id: { type: "string" }, extra: { $ref: "#/components/schemas/Json" } } },
      Error: { type: "object", required: ["error"], properties: { error: { type: "object", properties: { message: { type: "string" } } } } },
    },
  },
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await startMock({ port: Number(process.argv[2] ?? 8099), key: process.env.MOCK_KEY ?? null });
  console.log(`The mock listens on ${mock.url}`);
}
