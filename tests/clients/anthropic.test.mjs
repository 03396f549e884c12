// Anthropic's own client for JavaScript, unmodified, against a server of ours: BASE_URL (with /v1), API_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

const baseURL = process.env.BASE_URL.replace(/\/v1$/, "");
const client = new Anthropic({ baseURL, apiKey: process.env.API_KEY, maxRetries: 0 });
const models = await fetch(`${baseURL}/v1/models`, { headers: { "x-api-key": process.env.API_KEY } });
const model = (await models.json()).data[0].id;
const question = [{ role: "user", content: "Name three rivers of Europe." }];
const fields = (more) => ({ model, temperature: 0, max_tokens: 40, messages: question, ...more });
const text = (message) => message.content.map((block) => block.text ?? "").join("");
const city = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { name: "weather", description: "The weather in a city", input_schema: city };

test("a message is answered, and a stream says the same", async () => {
  const message = await client.messages.create(fields({}));
  const stream = client.messages.stream(fields({}));
  let streamed = "";
  stream.on("text", (piece) => (streamed += piece));
  assert.equal(text(await stream.finalMessage()), text(message));
  assert.equal(streamed, text(message));
  assert.ok(message.usage.lookahead.steps > 0);
});

test("a tool is used three times, and then there is an answer", async () => {
  const messages = [{ role: "user", content: "Compare the weather in three cities." }];
  for (let step = 0; step < 3; step += 1) {
    const tool_choice = { type: "any", disable_parallel_tool_use: true };
    const stream = client.messages.stream(fields({ messages, tools: [weather], tool_choice, max_tokens: 100 }));
    const message = await stream.finalMessage();
    assert.equal(message.stop_reason, "tool_use");
    const [call] = message.content;
    assert.deepEqual(Object.keys(call.input), ["city"]);
    const result = { type: "tool_result", tool_use_id: call.id, content: '{"celsius": 21}' };
    messages.push({ role: "assistant", content: message.content }, { role: "user", content: [result] });
  }
  const last = await client.messages.create(fields({ messages, tools: [weather], tool_choice: { type: "none" } }));
  assert.notEqual(last.stop_reason, "tool_use");
});

test("an answer follows a schema", async () => {
  const output_config = { format: { type: "json_schema", schema: city } };
  const message = await client.messages.create(fields({ output_config, max_tokens: 100 }));
  assert.deepEqual(Object.keys(JSON.parse(text(message))), ["city"]);
});

test("errors are the client's own", async () => {
  await assert.rejects(client.messages.create(fields({ temperature: -1 })), Anthropic.BadRequestError);
  await assert.rejects(client.messages.create(fields({ model: "none" })), Anthropic.NotFoundError);
});

test("a stream can be given up", async () => {
  const stream = client.messages.stream(fields({ max_tokens: 5000 }));
  for await (const event of stream) {
    assert.equal(event.type, "message_start");
    stream.abort();
    break;
  }
});
