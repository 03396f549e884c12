// OpenAI's own client for JavaScript, unmodified: responses.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const fields = (more) => ({ model, temperature: 0, max_output_tokens: 40, input: "Name three rivers of Europe.", ...more });
const city = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", name: "weather", description: "The weather in a city", parameters: city, strict: true }];

test("a response is given, and a stream says the same", async () => {
  const response = await client.responses.create(fields({}));
  let streamed = "";
  for await (const event of await client.responses.create(fields({ stream: true }))) {
    streamed += event.type === "response.output_text.delta" ? event.delta : "";
  }
  assert.equal(streamed, response.output_text);
});

test("a tool is called three times, and then there is an answer", async () => {
  let input = "Compare the weather in three cities.";
  let previous_response_id;
  for (let step = 0; step < 3; step += 1) {
    const more = { input, previous_response_id, tools, tool_choice: "required", parallel_tool_calls: false };
    const response = await client.responses.stream(fields({ ...more, max_output_tokens: 100 })).finalResponse();
    const [call] = response.output;
    assert.deepEqual(Object.keys(JSON.parse(call.arguments)), ["city"]);
    input = [{ type: "function_call_output", call_id: call.call_id, output: '{"celsius": 21}' }];
    previous_response_id = response.id;
  }
  const last = await client.responses.create(fields({ input, previous_response_id, tools, tool_choice: "none" }));
  assert.equal(last.output[0].type, "message");
});

test("an answer follows a schema", async () => {
  const text = { format: { type: "json_schema", name: "city", schema: city, strict: true } };
  const response = await client.responses.create(fields({ text, max_output_tokens: 100 }));
  assert.deepEqual(Object.keys(JSON.parse(response.output_text)), ["city"]);
});

test("errors are the client's own", async () => {
  await assert.rejects(client.responses.create(fields({ background: true })), (error) => {
    return error instanceof OpenAI.BadRequestError && error.param === "background";
  });
  await assert.rejects(client.responses.retrieve("resp_none"), OpenAI.NotFoundError);
});

test("a stream can be given up", async () => {
  const stream = await client.responses.create(fields({ stream: true, max_output_tokens: 5000 }));
  for await (const event of stream) {
    assert.equal(event.type, "response.created");
    stream.controller.abort();
    break;
  }
});
