// Thinking, calls of tools, attachments, and conversations that are kept, branched, exported and imported.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { PHONE, answered, ask, contrasts, limit, mock, open, overflow, picture, settled, test } from "./harness.mjs";
import { THOUGHT_TOKENS } from "./mock.mjs";

const TOOLS = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];

async function offer(page, tools) {
  await page.click("#open-settings");
  await page.fill("#tools", typeof tools === "string" ? tools : JSON.stringify(tools));
  await page.click("#settings-form .primary");
}

const questions = (page) => page.locator(".question p").allTextContents();
const titles = (page) => page.locator("#chat-list .open-chat").allTextContents();
const sent = () => mock.requests.at(-1).messages;
const file = (name, content) => ({ name, mimeType: "application/octet-stream", buffer: Buffer.from(content) });

async function exported(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return readFile(await download.path(), "utf8");
}

// ---------------------------------------------------------------- thinking

test("thinking is folded, told by its tokens, and sent back", async () => {
  const page = await open();
  const turn = await answered(page, "think");
  const thinking = turn.locator(".thinking");
  assert.equal(await thinking.locator("summary").textContent(), `Thought for ${THOUGHT_TOKENS} tokens`);
  assert.equal(await thinking.getAttribute("open"), null);
  await thinking.locator("summary").focus();
  await page.keyboard.press("Enter");
  assert.ok(await thinking.locator(".thoughts").isVisible());
  assert.match(await thinking.textContent(), /<b>blue<\/b>/);
  assert.equal(await thinking.locator("b").count(), 0, "it is text, never HTML");
  assert.equal((await turn.locator(".text").textContent()).includes("Rayleigh"), false);
  await picture(page, "thinking");
  await answered(page, "And now?");
  assert.match(sent()[1].reasoning_content, /^The user asks for <b>blue<\/b>\./);
  assert.deepEqual(page.problems, []);
});

test("thinking shows while it streams, and stays where it is stopped", async () => {
  const page = await open();
  await ask(page, "slow think");
  await page.locator(".thinking summary", { hasText: "Thinking…" }).waitFor();
  await page.keyboard.press("Escape");
  await settled(page);
  assert.match(await page.textContent(".thinking summary"), /^Thought for \d+ tokens?$/);
  assert.ok((await page.textContent(".thoughts")).startsWith("The"));
  await answered(page, "And now?");
  assert.ok(sent()[1].reasoning_content.startsWith("The"));
  assert.equal(sent()[1].content, "");
});

test("an answer without thinking shows none", async () => {
  const page = await open();
  const turn = await answered(page, "One?");
  assert.equal(await turn.locator(".thinking").isVisible(), false);
  await answered(page, "Two?");
  assert.equal("reasoning_content" in sent()[1], false);
});

// ---------------------------------------------------------------- calls

test("tools are offered only where a person pastes them", async () => {
  const page = await open();
  await answered(page, "weather");
  assert.equal("tools" in mock.requests.at(-1), false);
  await offer(page, TOOLS);
  await answered(page, "weather");
  assert.deepEqual(mock.requests.at(-1).tools, TOOLS);
});

for (const wrong of ["{", "{\"type\": \"function\"}", "[1]"]) {
  test(`tools that are no definitions are not sent (${wrong})`, async () => {
    const page = await open();
    const before = mock.requests.length;
    await page.click("#open-settings");
    await page.fill("#tools", wrong);
    await page.keyboard.press("Escape");
    await page.fill("#question", "weather");
    await page.press("#question", "Enter");
    await page.locator("#settings[open]").waitFor();
    assert.match(await page.locator("#tools").evaluate((box) => box.validationMessage), /JSON array/);
    assert.equal(mock.requests.length, before);
  });
}

test("calls show their arguments while they stream, and fold when long", async () => {
  const page = await open();
  await offer(page, TOOLS);
  await ask(page, "weather");
  await page.waitForFunction(() => {
    const text = document.querySelector(".call pre")?.textContent ?? "";
    return text.startsWith("{\"city\"") && !text.endsWith("}");
  });
  await settled(page);
  const [short, long] = await page.locator(".call").all();
  assert.match(await short.locator("summary").textContent(), /Calls get_weather/);
  assert.match(await short.locator("pre").textContent(), /^\{\n {2}"city": "Zürich",\n/);
  assert.notEqual(await short.getAttribute("open"), null);
  assert.equal(await long.getAttribute("open"), null);
  assert.equal(await short.locator("img").count(), 0);
  assert.notEqual(await page.title(), "owned");
  await picture(page, "calls");
  assert.deepEqual(page.problems, []);
});

test("results of calls are typed, sent as tool messages, and the conversation goes on", async () => {
  const page = await open();
  await offer(page, TOOLS);
  await answered(page, "weather");
  assert.deepEqual(await page.locator(".results label").allTextContents(), ["Result of get_weather", "Result of plan"]);
  await page.getByLabel("Result of get_weather").fill("12 °C, <b>rain</b>");
  await page.getByLabel("Result of plan").fill("done");
  await page.keyboard.press("Control+Enter");
  await page.locator(".turn").nth(1).waitFor();
  await settled(page);
  const [, call, ...results] = sent();
  assert.deepEqual(call.tool_calls.map((one) => [one.id, one.type, one.function.name]),
    [["call_0", "function", "get_weather"], ["call_1", "function", "plan"]]);
  assert.equal(JSON.parse(call.tool_calls[0].function.arguments).city, "Zürich");
  assert.deepEqual(results, [
    { role: "tool", tool_call_id: "call_0", content: "12 °C, <b>rain</b>" },
    { role: "tool", tool_call_id: "call_1", content: "done" },
  ]);
  assert.equal(await page.locator(".results:visible").count(), 0, "an answered call asks no more");
  assert.equal(await page.locator(".result summary").first().textContent(), "Result of get_weather");
  assert.equal(await page.locator(".result b").count(), 0);
});

test("a question after calls leaves none without a result", async () => {
  const page = await open();
  await offer(page, TOOLS);
  await answered(page, "weather");
  await page.getByLabel("Result of plan").fill("done");
  await answered(page, "Never mind.");
  assert.deepEqual(sent().slice(2), [
    { role: "tool", tool_call_id: "call_0", content: "" },
    { role: "tool", tool_call_id: "call_1", content: "done" },
    { role: "user", content: "Never mind." },
  ]);
});

test("a call that was cut off is shown, and no part of the history", async () => {
  const page = await open();
  await offer(page, TOOLS);
  const turn = await answered(page, "unfinished weather");
  assert.match(await turn.locator(".call summary").last().textContent(), /plan \(unfinished\)/);
  assert.equal(await turn.locator(".results label").count(), 1);
  await answered(page, "And now?");
  assert.equal(sent()[1].tool_calls.length, 1);
});

// ---------------------------------------------------------------- attachments

test("files go along as fenced text with their names", async () => {
  const page = await open();
  await page.setInputFiles("#attach-files", [file("notes.md", "# Title\n\n````\ncode\n````\n"), file("data.csv", "a,b\n")]);
  await page.locator("#attachments li").nth(1).waitFor();
  await page.getByRole("button", { name: "Remove data.csv" }).click();
  await answered(page, "What does it say?");
  assert.equal(sent()[0].content, "What does it say?\n\nnotes.md:\n`````\n# Title\n\n````\ncode\n````\n`````");
  assert.equal(await page.locator("#attachments").isVisible(), false);
  await answered(page, "And now?");
  assert.equal(sent()[2].content, "And now?");
});

test("files are dropped on the page, and one alone is a question", async () => {
  const page = await open();
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["<i>dropped</i>"], "`drop`\n.html"));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  });
  await page.locator("#attachments li").waitFor();
  await page.click("#send");
  await page.locator(".turn").waitFor();
  await settled(page);
  assert.equal(sent()[0].content, "drop.html:\n```\n<i>dropped</i>\n```");
  assert.equal(await page.locator(".question i").count(), 0);
});

for (const [kind, content, why] of [
  ["binary", [0x89, 0x50, 0xff, 0xfe], /picture\.png is not attached: it is no text/],
  ["zeros", [0x41, 0, 0x42], /picture\.png is not attached: it is binary/],
  ["large", Buffer.alloc(300 * 1024, "x"), /picture\.png is not attached: it has 300 KiB, and 256 KiB is the most/],
]) {
  test(`a file that cannot go along is refused (${kind})`, async () => {
    const page = await open();
    await page.setInputFiles("#attach-files", [file("picture.png", content)]);
    await page.locator("#attach-note", { hasText: why }).waitFor();
    assert.equal(await page.locator("#attachments li").count(), 0);
  });
}

test("a question that cannot be sent keeps its files", async () => {
  const page = await open();
  await page.setInputFiles("#attach-files", [file("a.txt", "a")]);
  await page.locator("#attachments li").waitFor();
  await ask(page, "slow");
  await page.setInputFiles("#attach-files", [file("b.txt", "b")]);
  await page.locator("#attachments li", { hasText: "b.txt" }).waitFor();
  await page.press("#question", "Enter");
  assert.equal(await page.locator("#attachments li").count(), 1);
});

// ---------------------------------------------------------------- keeping

test("a conversation is kept in the browser and opened again", async () => {
  const page = await open();
  await limit(page, 24);
  await answered(page, "think <b>once</b>");
  const text = await page.textContent(".answer .text");
  const thoughts = await page.textContent(".thoughts");
  await page.reload();
  assert.equal(await page.locator(".turn").count(), 0);
  await page.locator("#chat-list .open-chat").click();
  assert.equal(await page.textContent(".answer .text"), text);
  assert.equal(await page.textContent(".thoughts"), thoughts);
  assert.equal(await page.locator("#chat-list b").count(), 0);
  await answered(page, "And now?");
  assert.deepEqual(sent()[1], { role: "assistant", content: text, reasoning_content: thoughts });
  assert.equal(await page.locator("#chat-list li").count(), 1);
  assert.deepEqual(page.problems, []);
  assert.deepEqual(page.foreign, []);
});

test("calls are kept with their results open", async () => {
  const page = await open();
  await offer(page, TOOLS);
  await answered(page, "weather");
  await page.reload();
  await page.locator("#chat-list .open-chat").click();
  await page.getByLabel("Result of plan").fill("done");
  await page.getByRole("button", { name: "Send results" }).click();
  await page.locator(".turn").nth(1).waitFor();
  await settled(page);
  assert.deepEqual(sent().map((message) => message.role), ["user", "assistant", "tool", "tool"]);
});

test("conversations are deleted one by one and all at once", async () => {
  const page = await open();
  page.on("dialog", (dialog) => dialog.accept());
  for (const question of ["One?", "Two?", "Three?"]) {
    await page.click("#new-chat");
    await answered(page, question);
  }
  assert.deepEqual(await titles(page), ["Three?", "Two?", "One?"]);
  await page.getByRole("button", { name: "Delete Two?" }).click();
  assert.deepEqual(await titles(page), ["Three?", "One?"]);
  assert.equal(await page.locator(".turn").count(), 1, "another one stays open");
  await page.click("#delete-chats");
  assert.deepEqual(await titles(page), []);
  assert.equal(await page.locator(".turn").count(), 0);
  const keys = await page.evaluate(() => Object.keys(localStorage).filter((key) => key.includes("conversation")));
  assert.deepEqual(keys, []);
});

test("a conversation that is deleted in the middle of an answer stays deleted", async () => {
  const page = await open();
  page.on("dialog", (dialog) => dialog.accept());
  await ask(page, "slow");
  await page.getByRole("button", { name: "Delete slow" }).click();
  await settled(page);
  await page.waitForTimeout(200);
  assert.deepEqual(await titles(page), []);
});

test("an answer that another conversation interrupts is kept with its own", async () => {
  const page = await open();
  await answered(page, "One?");
  await page.click("#new-chat");
  await ask(page, "slow");
  await page.waitForFunction(() => document.querySelector(".text")?.textContent.length > 10);
  await page.getByRole("button", { name: "One?", exact: true }).click();
  await settled(page);
  await page.getByRole("button", { name: "slow", exact: true }).click();
  assert.equal(await page.locator(".answer").getAttribute("data-state"), "stopped");
  assert.ok((await page.textContent(".answer .text")).length > 10);
});

test("leaving the page in the middle of an answer keeps what came", async () => {
  const page = await open();
  await ask(page, "slow");
  await page.waitForFunction(() => document.querySelector(".text")?.textContent.length > 10);
  await page.reload();
  await page.locator("#chat-list .open-chat").click();
  assert.ok((await page.textContent(".answer .text")).length > 10);
  assert.ok(await page.locator(".retry").isVisible());
});

test("nothing is kept where a person does not want it", async () => {
  const page = await open();
  await page.click("#open-settings");
  await page.uncheck("input[name=keep]");
  await page.click("#settings-form .primary");
  await answered(page, "A secret?");
  assert.deepEqual(await titles(page), []);
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes("secret")), false);
});

for (const [how, fill] of [
  ["the browser refuses", () => {
    Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
  }],
  ["the bound is reached", () => {
    localStorage.setItem("lookahead.conversations", JSON.stringify([{ id: "old", title: "Old", size: 4_499_999 }]));
  }],
]) {
  test(`a conversation that finds no room is said not to be kept (${how})`, async () => {
    const page = await open();
    await page.evaluate(fill);
    const turn = await answered(page, "One?");
    assert.equal(await turn.locator(".answer").getAttribute("data-state"), "done");
    assert.match(await page.textContent("#chat-note"), /not kept: no room is left/);
    assert.deepEqual(page.problems, []);
  });
}

test("a damaged conversation is said to be one", async () => {
  const page = await open();
  await page.evaluate(() => {
    localStorage.setItem("lookahead.conversations", JSON.stringify([{ id: "x", title: "Broken", size: 9 }]));
    localStorage.setItem("lookahead.conversation.x", "{\"turns\": 3}");
  });
  await page.reload();
  await page.locator("#chat-list .open-chat").click();
  assert.match(await page.textContent("#chat-note"), /cannot be read/);
  const turn = await answered(page, "One?");
  assert.equal(await turn.locator(".answer").getAttribute("data-state"), "done");
});

// ---------------------------------------------------------------- branches

test("an earlier message is edited into a branch, and branches are switched", async () => {
  const page = await open();
  await answered(page, "One?");
  await answered(page, "Two?");
  const first = page.locator(".turn").first();
  await first.locator(".edit").click();
  await page.getByLabel("Your message").fill("Uno?");
  await page.getByRole("button", { name: "Send as a branch" }).click();
  await page.locator(".question p", { hasText: "Uno?" }).waitFor();
  await settled(page);
  assert.deepEqual(sent(), [{ role: "user", content: "Uno?" }]);
  assert.deepEqual(await questions(page), ["Uno?"]);
  assert.equal(await page.textContent(".branches span"), "2/2");
  await page.getByRole("button", { name: "Previous branch" }).click();
  assert.deepEqual(await questions(page), ["One?", "Two?"], "with all that followed");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Next branch");
  await page.keyboard.press("Enter");
  assert.deepEqual(await questions(page), ["Uno?"]);
  await answered(page, "Due?");
  assert.deepEqual(sent().map((message) => message.content).filter((text) => text.endsWith("?")), ["Uno?", "Due?"]);
  await page.reload();
  await page.locator("#chat-list .open-chat").click();
  assert.deepEqual(await questions(page), ["Uno?", "Due?"], "the branch that was shown last");
  await page.getByRole("button", { name: "Previous branch" }).click();
  assert.deepEqual(await questions(page), ["One?", "Two?"]);
  assert.deepEqual(page.problems, []);
});

test("editing is cancelled by Escape, and changes nothing", async () => {
  const page = await open();
  await answered(page, "One?");
  const before = mock.requests.length;
  await page.click(".edit");
  await page.keyboard.type("More");
  await page.keyboard.press("Escape");
  assert.deepEqual(await questions(page), ["One?"]);
  assert.ok(await page.locator(".edit").evaluate((button) => button === document.activeElement));
  assert.equal(mock.requests.length, before);
});

test("an answer is written again as a branch", async () => {
  const page = await open();
  await answered(page, "One?");
  await answered(page, "Two?");
  await page.locator(".again").first().click();
  await page.locator(".branches span", { hasText: "2/2" }).waitFor();
  await settled(page);
  assert.deepEqual(sent(), [{ role: "user", content: "One?" }]);
  await page.locator(".again").click();
  await page.locator(".branches span", { hasText: "3/3" }).waitFor();
  await settled(page);
  await page.getByRole("button", { name: "Previous branch" }).click();
  assert.equal(await page.textContent(".branches span"), "2/3");
  await page.getByRole("button", { name: "Previous branch" }).click();
  assert.deepEqual(await questions(page), ["One?", "Two?"]);
  await picture(page, "branches");
});

test("trying again after a stop keeps what came so far", async () => {
  const page = await open();
  await ask(page, "slow");
  await page.waitForFunction(() => document.querySelector(".text")?.textContent.length > 10);
  await page.keyboard.press("Escape");
  await settled(page);
  const text = await page.textContent(".answer .text");
  await page.click(".retry");
  await page.locator("#stop").waitFor();
  await page.getByRole("button", { name: "Previous branch" }).click();
  await settled(page);
  assert.equal(await page.textContent(".answer .text"), text);
});

// ---------------------------------------------------------------- export and import

test("a conversation goes out as JSON and comes back the same", async () => {
  const page = await open();
  await offer(page, TOOLS);
  await answered(page, "think about the weather");
  await page.getByRole("button", { name: "Send results" }).click();
  await page.locator(".turn").nth(1).waitFor();
  await settled(page);
  const json = await exported(page, "#export-json");
  const { messages } = JSON.parse(json);
  assert.deepEqual(messages.map((message) => message.role), ["user", "assistant", "tool", "tool", "assistant"]);
  assert.deepEqual(messages.slice(0, 4), sent());
  await page.click("#new-chat");
  await page.setInputFiles("#import-file", [file("conversation.json", json)]);
  await page.locator(".turn").nth(1).waitFor();
  assert.deepEqual(JSON.parse(await exported(page, "#export-json")), JSON.parse(json));
  await answered(page, "And now?");
  assert.deepEqual(sent().slice(0, -1), messages);
  assert.equal(await page.locator("#chat-list li").count(), 2);
});

test("a conversation goes out as Markdown", async () => {
  const page = await open();
  await offer(page, TOOLS);
  await answered(page, "think about the weather");
  const text = await exported(page, "#export-markdown");
  assert.match(text, /^# think about the weather\n\n## You\n\nthink about the weather\n\n## Answer\n\n> The user asks/);
  assert.match(text, /\n\nCalls `get_weather`:\n\n```json\n\{"city":"Zürich"/);
});

test("an imported list of messages keeps its system prompt and its open question", async () => {
  const page = await open();
  await page.click("#open-settings");
  await page.fill("#system", "Be long.");
  await page.click("#settings-form .primary");
  const messages = [
    { role: "system", content: "Be <b>brief</b>." },
    { role: "user", content: [{ type: "text", text: "One" }, { type: "text", text: "?" }] },
    { role: "assistant", content: "1" },
    { role: "user", content: "Two?" },
  ];
  await page.setInputFiles("#import-file", [file("m.json", JSON.stringify(messages))]);
  await page.locator(".turn").nth(1).waitFor();
  assert.equal(await page.locator(".turn b").count(), 0);
  await page.click(".retry:visible");
  await page.locator("#stop").waitFor();
  await settled(page);
  assert.deepEqual(sent(), [messages[0], { role: "user", content: "One?" }, ...messages.slice(2)]);
});

for (const [content, why] of [
  ["no json", /m\.json is no JSON/],
  ["{}", /has no messages/],
  ["[]", /has no messages/],
  ["[null]", /Message 1 has none of the roles/],
  ["[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]", /Message 1 has a part that is no text/],
  ["[{\"role\": \"user\", \"content\": 3}]", /Message 1 has a content that is no text/],
  ["[{\"role\": \"assistant\", \"tool_calls\": [{}]}]", /Message 1 has a call without a name/],
]) {
  test(`a file that is no conversation is refused (${content})`, async () => {
    const page = await open();
    await page.setInputFiles("#import-file", [file("m.json", content)]);
    await page.locator("#chat-note", { hasText: why }).waitFor();
    assert.equal(await page.locator(".turn").count(), 0);
    assert.deepEqual(page.problems, []);
  });
}

// ---------------------------------------------------------------- layout

for (const colorScheme of ["light", "dark"]) {
  test(`the list, forms and folds fit a phone (${colorScheme})`, async () => {
    const page = await open("/", { viewport: PHONE, colorScheme });
    await offer(page, TOOLS);
    await answered(page, "think about the weather");
    await page.click("#toggle-chats");
    assert.equal(await page.getAttribute("#toggle-chats", "aria-expanded"), "true");
    assert.ok(await page.locator("#chat-list .open-chat").isVisible());
    await page.setInputFiles("#attach-files", [file(`${"long".repeat(30)}.txt`, "a")]);
    await page.locator("#attachments li").waitFor();
    await page.locator(".edit").first().click();
    assert.ok((await overflow(page)) <= 0);
    await page.locator(".again").first().click();
    await settled(page);
    await page.locator(".thinking summary").last().click();
    const seen = await page.evaluate(contrasts, ".thinking summary, .thoughts, .call summary, .call pre, .branches span, "
      + ".turn .link, .open-chat, .chats .note, .chats button, .attachments span, .messages label, .results button");
    assert.ok(seen.length > 15);
    for (const { name, text } of seen) assert.ok(text >= 4.5, `${name}: ${text.toFixed(2)}`);
    await picture(page, `phone-conversations-${colorScheme}`);
  });
}
