// OpenAI's own client for JavaScript, unmodified, against a server of ours: BASE_URL (with /v1), API_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const ask = (fields) =>
  client.chat.completions.create({
    model,
    temperature: 0,
    max_tokens: 40,
    messages: [{ role: "user", content: "Name three rivers of Europe." }],
    ...fields,
  });

test("a chat is answered, and a stream says the same", async () => {
  const answer = await ask({});
  let text = "";
  for await (const chunk of await ask({ stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.equal(text, answer.choices[0].message.content);
  assert.ok(answer.usage.lookahead.steps > 0);
});

test("an answer follows a schema", async () => {
  const schema = {
    type: "object",
    properties: { river: { type: "string", maxLength: 20 } },
    required: ["river"],
    additionalProperties: false,
  };
  const answer = await ask({ response_format: { type: "json_schema", json_schema: { name: "r", schema } } });
  assert.deepEqual(Object.keys(JSON.parse(answer.choices[0].message.content)), ["river"]);
});

test("a tool is called", async () => {
  const parameters = {
    type: "object",
    properties: { city: { type: "string", maxLength: 20 } },
    required: ["city"],
    additionalProperties: false,
  };
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  const answer = await ask({ tools, tool_choice: "required", parallel_tool_calls: false, max_tokens: 100 });
  const [call] = answer.choices[0].message.tool_calls;
  assert.equal(call.function.name, "weather");
  assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ["city"]);
});

test("errors are the client's own", async () => {
  await assert.rejects(ask({ temperature: -1 }), (error) => {
    return error instanceof OpenAI.BadRequestError && error.param === "temperature";
  });
  await assert.rejects(ask({ model: "none" }), OpenAI.NotFoundError);
});

test("a stream can be given up", async () => {
  const stream = await ask({ stream: true, max_tokens: 5000 });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    stream.controller.abort();
    break;
  }
});
