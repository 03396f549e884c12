// The chat page and the API reference in a headless Chromium.
//
//   npm ci && npm test                               against the mock of mock.mjs
//   BASE_URL=http://127.0.0.1:8080 npm test          against a real server with a real model: what `testWithServer` marks
//
// CHROMIUM names the browser (default /usr/bin/chromium), LOOKAHEAD_API_KEY the key of a server that asks for one,
// SCREENSHOTS a folder for pictures of the pages.

import assert from "node:assert/strict";
import {
  PHONE, REAL, answered, ask, contrasts, limit, mock, open, overflow, picture, settled, stat, test, testWithServer,
} from "./harness.mjs";
import { MODEL, startMock } from "./mock.mjs";

// ---------------------------------------------------------------- the page

testWithServer("the page loads without errors and asks nobody but its server", async () => {
  const page = await open();
  await page.waitForFunction(() => document.getElementById("model").textContent !== "…");
  const name = await page.textContent("#model");
  if (!REAL) assert.equal(name, MODEL);
  assert.notEqual(name, "no model");
  assert.equal(await page.locator(".legend .token").count(), 6);
  await picture(page, "empty");
  assert.deepEqual(page.problems, []);
  assert.deepEqual(page.foreign, []);
});

test("nothing in the pages needs a looser content security policy", async () => {
  const page = await open();
  assert.equal(await page.locator("[style], style, script:not([src]), [onclick]").count(), 0);
});

testWithServer("an answer streams in, with coloured tokens and figures", async () => {
  const page = await open();
  await limit(page);
  await ask(page, "Repeat three times: the sky is blue because air scatters blue light. (every source)");
  await page.waitForFunction(() => document.querySelector(".text")?.textContent.length > 10);
  await settled(page);
  const answer = page.locator(".answer");
  assert.equal(await answer.getAttribute("data-state"), "done");
  assert.ok((await answer.locator(".text .token").count()) > 0, "some drafts were accepted and show");
  assert.match(await stat(answer, "speed"), /^\d+(\.\d)?$/);
  assert.match(await stat(answer, "first"), /^[\d.]+ m?s$/);
  assert.ok(Number(await stat(answer, "edl")) > 1);
  assert.match(await stat(answer, "accepted"), /^\d+\/\d+$/);
  await picture(page, "answer");
  assert.deepEqual(page.problems, []);
});

test("the figures of the server are the ones shown", async () => {
  const page = await open();
  const turn = await answered(page, "every source");
  const tokens = (await turn.locator(".text").textContent()).match(/\s*\w+|\s*[^\w\s]|\s+/g).length;
  assert.equal(Number(await stat(turn, "tokens")), tokens);
  const [accepted, drafted] = (await stat(turn, "accepted")).split("/").map(Number);
  const counts = await turn.locator(".sources li").allTextContents();
  assert.equal(counts.length, 6);
  assert.equal(counts.map((text) => Number(text.match(/\d+$/)[0])).reduce((a, b) => a + b), accepted);
  assert.equal(await turn.locator(".text .token").count(), accepted);
  assert.ok(drafted >= accepted);
});

test("figures are live while the answer streams", async () => {
  const page = await open();
  await ask(page, "slow");
  await page.waitForFunction(() => Number(document.querySelector('[data-stat="tokens"]')?.textContent) > 8);
  assert.match(await stat(page.locator(".answer"), "speed"), /^\d/);
  assert.equal(await page.locator(".answer").getAttribute("aria-busy"), "true");
  await picture(page, "streaming");
});

test("a step of several chunks counts once", async () => {
  const page = await open();
  await ask(page, "slow split");
  await page.waitForFunction(() => document.querySelector(".text")?.textContent.length > 150);
  await page.keyboard.press("Escape");
  await settled(page);
  assert.ok(Number(await stat(page.locator(".answer"), "edl")) > 2);
});

test("what a request says", async () => {
  const page = await open();
  await page.click("#open-settings");
  await page.fill("#system", "Be brief.");
  await page.fill("#temperature", "0.5");
  await page.fill("#top_p", "0.9");
  await page.fill("#seed", "7");
  await page.fill("#max_tokens", "5");
  await page.click("#settings-form .primary");
  const first = await answered(page, "One?");
  assert.match(await first.locator(".note").first().textContent(), /Cut at/);
  await answered(page, "Two?");
  const { messages, ...rest } = mock.requests.at(-1);
  const reply = await first.locator(".text").textContent();
  assert.deepEqual(messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "One?" },
    { role: "assistant", content: reply },
    { role: "user", content: "Two?" },
  ]);
  assert.deepEqual(rest, {
    model: MODEL, stream: true, stream_options: { include_usage: true }, lookahead: { enabled: true, trace: true },
    temperature: 0.5, top_p: 0.9, seed: 7, max_tokens: 5,
  });
});

test("a value that is out of range is not sent", async () => {
  const page = await open();
  const before = mock.requests.length;
  await page.click("#open-settings");
  await page.fill("#temperature", "9");
  await page.keyboard.press("Escape");
  await page.fill("#question", "Hello?");
  await page.press("#question", "Enter");
  await page.locator("#settings[open]").waitFor();
  assert.equal(mock.requests.length, before);
});

test("a new chat forgets the old one", async () => {
  const page = await open();
  await limit(page, 8);
  await answered(page, "Hello?");
  await page.click("#new-chat");
  assert.equal(await page.locator(".turn").count(), 0);
  assert.ok(await page.locator("#welcome").isVisible());
  await answered(page, "And now?");
  assert.equal(mock.requests.at(-1).messages.length, 1);
});

test("a new chat in the middle of an answer ends it", async () => {
  const page = await open();
  await ask(page, "slow");
  await page.click("#new-chat");
  await settled(page);
  await answered(page, "And now?");
  assert.equal(await page.locator(".turn").count(), 1);
  assert.deepEqual(page.problems, []);
});

// ---------------------------------------------------------------- stopping

for (const how of ["button", "Escape"]) {
  test(`the answer stops by ${how}`, async () => {
    const page = await open();
    const { cut } = mock;
    await ask(page, "Write a very long story, slow and with every detail.");
    await page.waitForFunction(() => document.querySelector(".text")?.textContent.length > 10);
    await (how === "button" ? page.click("#stop") : page.keyboard.press("Escape"));
    await settled(page);
    const answer = page.locator(".answer");
    assert.equal(await answer.getAttribute("data-state"), "stopped");
    const length = (await answer.locator(".text").textContent()).length;
    await page.waitForTimeout(300);
    assert.equal((await answer.locator(".text").textContent()).length, length);
    assert.ok(await page.locator("#question").evaluate((box) => box === document.activeElement), "ready for the next question");
    assert.ok(await page.locator(".retry").isVisible());
    assert.equal(mock.cut, cut + 1, "the server learns of it");
    assert.deepEqual(page.problems, []);
  });
}

test("Escape closes the settings before it stops anything", async () => {
  const page = await open();
  await ask(page, "slow");
  await page.click("#open-settings");
  await page.keyboard.press("Escape");
  await page.locator("#settings").waitFor({ state: "hidden" });
  assert.ok(await page.locator("#stop").isVisible());
  await page.keyboard.press("Escape");
  await settled(page);
});

// ---------------------------------------------------------------- keyboard and screen readers

test("all works by keyboard alone", async () => {
  const page = await open();
  await limit(page, 24);
  await page.reload();
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.value);
  assert.equal(await focused(), "question");
  await page.keyboard.type("First line");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("second line");
  assert.equal(await page.inputValue("#question"), "First line\nsecond line");
  await page.keyboard.press("Enter");
  await page.locator("#stop").waitFor();
  await settled(page);
  assert.equal(await page.textContent(".question p"), "First line\nsecond line");
  assert.equal(await page.inputValue("#question"), "");

  assert.equal(await focused(), "question");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "send");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "lookahead");
  await page.keyboard.press("ArrowRight");
  assert.equal(await focused(), "plain");
  assert.ok(await page.isChecked("input[value=plain]"));
  const outline = await page.evaluate(() => getComputedStyle(document.querySelector("input[value=plain] + span")).outlineStyle);
  assert.equal(outline, "solid", "focus shows");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "colours");
  await page.keyboard.press("Space");
  assert.equal(await page.isChecked("#colours"), false);

  await page.focus("#open-settings");
  await page.keyboard.press("Enter");
  await page.locator("#settings[open]").waitFor();
  assert.equal(await focused(), "system");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "open-settings");
});

test("an answer is read aloud in few pieces, and whole", async () => {
  const page = await open();
  await page.evaluate(() => {
    window.said = [];
    new MutationObserver(() => window.said.push(document.getElementById("announcer").textContent))
      .observe(document.getElementById("announcer"), { childList: true, characterData: true, subtree: true });
  });
  const turn = await answered(page, "Why is the sky blue?");
  const said = await page.evaluate(() => window.said);
  assert.ok(said.length <= 4, `${said.length} announcements`);
  assert.equal(said.filter((text) => text !== "Answering").join("").trim(), await turn.locator(".text").textContent());
});

test("motion is still where it is not wanted", async () => {
  const page = await open("/", { reducedMotion: "reduce" });
  await ask(page, "slow");
  const animation = await page.evaluate(() => getComputedStyle(document.querySelector(".text"), "::after").animationName);
  assert.equal(animation, "none");
});

// ---------------------------------------------------------------- colours

test("colours can be switched off, and stay so", async () => {
  const page = await open();
  await answered(page, "every source");
  const background = () => page.locator(".text .token").first().evaluate((token) => getComputedStyle(token).backgroundColor);
  assert.notEqual(await background(), "rgba(0, 0, 0, 0)");
  await page.uncheck("#colours");
  assert.equal(await background(), "rgba(0, 0, 0, 0)");
  await page.reload();
  assert.equal(await page.isChecked("#colours"), false);
});

for (const colorScheme of ["light", "dark"]) {
  test(`the colours can be read and told apart (${colorScheme})`, async () => {
    const page = await open("/", { colorScheme });
    const legend = await page.evaluate(contrasts, ".legend .token");
    assert.equal(legend.length, 6);
    for (const { name, text, line } of legend) {
      assert.ok(text >= 4.5, `${name}: text ${text.toFixed(2)}`);
      assert.ok(line >= 4.5, `${name}: underline ${line.toFixed(2)}`);
    }
    assert.equal(new Set(legend.map((entry) => entry.stroke)).size, 6, "each source has an underline of its own");
    const rest = await page.evaluate(contrasts, ".insights p, .legend small, .welcome p, .segments span, .help, .model, button");
    for (const { name, text } of rest) assert.ok(text >= 4.5, `${name}: ${text.toFixed(2)}`);
  });
}

test("text that differs from its tokens is shown as it is, plainly", async () => {
  const page = await open();
  const turn = await answered(page, "held");
  assert.match(await turn.locator(".text").textContent(), /—/);
  assert.equal(await turn.locator(".token", { hasText: "—" }).count(), 0);
});

// ---------------------------------------------------------------- plain, and side by side

testWithServer("plain decoding shows no drafts", async () => {
  const page = await open();
  await limit(page, 24);
  await page.check("input[value=plain]");
  const turn = await answered(page, "Why is the sky blue?");
  assert.equal(await turn.locator(".text .token").count(), 0);
  // Whether the pass over the prompt counts as a step is the server's affair.
  assert.ok(Math.abs(Number(await stat(turn, "edl")) - 1) < 0.1);
  if (!REAL) assert.equal(mock.requests.at(-1).lookahead.enabled, false);
});

testWithServer("side by side: two columns, the ratio, and the same text", async () => {
  const page = await open();
  await limit(page);
  await page.click("#open-settings");
  await page.fill("#temperature", "0.8");
  await page.click("#settings-form .primary");
  await page.check("input[value=both]");
  await ask(page, "Why is the sky blue?");
  await page.locator(".verdict").waitFor();
  const columns = await page.locator(".answer").evaluateAll((all) => all.map((one) => one.getBoundingClientRect().toJSON()));
  assert.equal(columns.length, 2);
  assert.ok(columns[0].right <= columns[1].left, "beside each other");
  assert.equal(columns[0].top, columns[1].top);
  assert.match(await page.textContent(".ratio"), /^\d+\.\d\d×$/);
  assert.equal(await page.textContent(".same"), "✓ same text");
  const texts = await page.locator(".answer .text").allTextContents();
  assert.equal(texts[0], texts[1]);
  await picture(page, "side-by-side");
  if (REAL) return;
  const [lookahead, plain] = mock.requests.slice(-2);
  assert.equal(lookahead.lookahead.enabled, true);
  assert.equal(plain.lookahead.enabled, false);
  assert.ok(Number.isInteger(lookahead.seed));
  assert.deepEqual({ ...lookahead, lookahead: 0 }, { ...plain, lookahead: 0 });
});

test("side by side says so when the texts differ", async () => {
  const page = await open();
  await page.check("input[value=both]");
  const turn = await answered(page, "differ");
  assert.equal(await turn.locator(".differs").textContent(), "✗ different text");
});

test("stopping a comparison stops both, and judges neither", async () => {
  const page = await open();
  await page.check("input[value=both]");
  await ask(page, "slow");
  await page.waitForFunction(() => document.querySelector(".text")?.textContent.length > 10);
  const before = mock.requests.length;
  await page.keyboard.press("Escape");
  await settled(page);
  await page.waitForTimeout(100);
  assert.equal(mock.requests.length, before);
  assert.equal(await page.locator(".verdict").isVisible(), false);
});

// ---------------------------------------------------------------- what models write

test("HTML in an answer is text", async () => {
  const page = await open();
  const turn = await answered(page, "html <i>please</i>");
  assert.match(await turn.locator(".text").textContent(), /<script>alert\(1\)<\/script>/);
  assert.equal(await turn.locator(".text .token :not(.token), .text :not(.token), .question i").count(), 0);
  assert.ok((await turn.locator(".token", { hasText: /<\w+>/ }).count()) > 0, "tags are among the drafts, too");
  assert.notEqual(await page.title(), "owned");
  assert.deepEqual(page.problems, []);
});

test("code fences become blocks and keep their colours", async () => {
  const page = await open();
  const turn = await answered(page, "code");
  const pre = turn.locator("pre");
  assert.equal(await pre.getAttribute("data-language"), "python");
  assert.equal(await pre.textContent(), "def is_palindrome(word):\n    return word == word[::-1]");
  assert.ok((await pre.locator(".token").count()) > 0);
  assert.equal((await turn.locator(".text").textContent()).includes("```"), false);
  await answered(page, "Again?");
  assert.match(mock.requests.at(-1).messages[1].content, /```python\n/, "the history has the text as it was");
});

test("new tokens leave the rest of the conversation alone", async () => {
  const page = await open();
  await answered(page, "First?");
  await page.evaluate(() => {
    window.touched = 0;
    window.removed = 0;
    const count = (records) => (window.touched += records.length);
    new MutationObserver(count).observe(document.querySelector(".turn"), { subtree: true, childList: true, characterData: true, attributes: true });
    new MutationObserver((records) => records.forEach(({ target, removedNodes }) => {
      if (target.closest?.(".text")) window.removed += removedNodes.length;
    })).observe(document.getElementById("turns"), { subtree: true, childList: true });
  });
  await answered(page, "Second?");
  assert.deepEqual(await page.evaluate(() => [window.touched, window.removed]), [0, 0]);
});

// ---------------------------------------------------------------- errors

test("a busy server's error shows, and the question can be asked again", async () => {
  const page = await open();
  const turn = await answered(page, "busy");
  assert.equal(await turn.locator("[role=alert]").textContent(), "Too many requests wait already. Try again in about 2 s.");
  await picture(page, "error");
  await turn.locator(".retry").click();
  await page.waitForFunction(() => document.querySelector(".answer").dataset.state === "done");
  assert.equal(await turn.locator("[role=alert]").isVisible(), false);
});

for (const [word, message] of [["break", /broke/], ["mid", /The model failed\./]]) {
  test(`an error in the middle of an answer shows beside its beginning (${word})`, async () => {
    const page = await open();
    const turn = await answered(page, word);
    assert.match(await turn.locator("[role=alert]").textContent(), message);
    assert.ok((await turn.locator(".text").textContent()).length > 0);
  });
}

test("a server that is gone is said to be gone", async () => {
  const own = await startMock();
  const page = await open("/", { base: own.url });
  await own.close();
  const turn = await answered(page, "Hello?");
  assert.match(await turn.locator("[role=alert]").textContent(), /cannot be reached/);
});

test("a server with a key asks for it, and the question is asked again", async () => {
  const own = await startMock();
  try {
    const page = await open("/", { base: own.url });
    own.key = "secret";
    await answered(page, "Hello?");
    await page.locator("#key-form").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "key");
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await page.locator("#key-note", { hasText: "refused" }).waitFor();
    await picture(page, "key");
    await page.fill("#key", "secret");
    await page.press("#key", "Enter");
    await page.waitForFunction(() => document.querySelector(".answer").dataset.state === "done");
    assert.equal(await page.locator("#key-form").isVisible(), false);
    const stored = await page.evaluate(() => [sessionStorage.getItem("lookahead.key"), JSON.stringify(localStorage)]);
    assert.equal(stored[0], "secret");
    assert.equal(stored[1].includes("secret"), false, "only this tab keeps the key");
  } finally {
    await own.close();
  }
});

test("a key is asked for when the page opens, and the model's name follows", async () => {
  const own = await startMock({ key: "secret" });
  try {
    const page = await open("/", { base: own.url });
    await page.locator("#key-form").waitFor();
    await page.fill("#key", "secret");
    await page.press("#key", "Enter");
    await page.waitForFunction((name) => document.getElementById("model").textContent === name, MODEL);
  } finally {
    await own.close();
  }
});

// ---------------------------------------------------------------- plots

testWithServer("plots follow the answers, and say in words what they show", async () => {
  const page = await open();
  await limit(page);
  const label = (id) => page.locator(`#${id} svg[role=img]`).getAttribute("aria-label");
  assert.match(await label("plot-edl"), /no answer yet/);
  await answered(page, "Say ten times: the sky is blue.");
  await page.waitForFunction(() => document.querySelector("#plot-speed .bar"));
  assert.match(await label("plot-edl"), /\d\.\d\d on average over the last \d+ steps; \d+ steps shown/);
  assert.match(await label("plot-acceptance"), /\d+% of the last drafts accepted|nothing drafted/);
  assert.match(await label("plot-speed"), /lookahead \d/);
  const before = await label("plot-edl");
  await answered(page, "Say ten times: the sea is green.");
  await page.waitForFunction(() => document.querySelectorAll("#plot-speed .bar").length === 2);
  assert.notEqual(await label("plot-edl"), before);
  const path = await page.locator("#plot-edl .line").getAttribute("d");
  assert.equal(path.match(/M/g).length, 2, "one stretch for each answer");
});

// ---------------------------------------------------------------- phones

test("a phone's width needs no sideways scrolling", async () => {
  const page = await open("/", { viewport: PHONE, hasTouch: true });
  assert.equal(await overflow(page), 0);
  assert.equal(await page.locator("#insights").isVisible(), false);
  await limit(page);
  await page.check("input[value=both]");
  await answered(page, `Write Python code that prints ${"x".repeat(120)}`);
  assert.equal(await overflow(page), 0);
  await picture(page, "phone");
  await page.click("#toggle-insights");
  assert.ok(await page.locator("#insights").isVisible());
  assert.equal(await overflow(page), 0);
  await page.click("#open-settings");
  assert.equal(await overflow(page), 0);
});

test("dark, side by side", async () => {
  const page = await open("/", { colorScheme: "dark" });
  await limit(page);
  await page.check("input[value=both]");
  await answered(page, "Why is the sky blue?");
  const parts = await page.evaluate(contrasts, ".answer .text, .stats dt, .stats dd, .verdict span, .verdict .note, .question p");
  for (const { name, text } of parts) assert.ok(text >= 4.5, `${name}: ${text.toFixed(2)}`);
  await picture(page, "dark");
});

// ---------------------------------------------------------------- the API reference

testWithServer("the reference shows the operations of the server", async () => {
  const page = await open("/docs");
  await page.locator(".operation").first().waitFor();
  assert.equal(await page.locator(".contents li").count(), await page.locator(".operation").count());
  assert.match(await page.locator(".example code").first().textContent(), /^curl /);
  assert.ok(await page.locator('a[href="/openapi.json"]').first().isVisible());
  await picture(page, "docs");
  await page.setViewportSize(PHONE);
  assert.equal(await overflow(page), 0);
  assert.deepEqual(page.problems, []);
  assert.deepEqual(page.foreign, []);
});

testWithServer("every part of the reference opens", async () => {
  const page = await open("/docs");
  await page.locator(".operation").first().waitFor();
  // Opening builds what lies within, which may open in turn; a schema in itself must not go on for ever.
  for (let round = 0; round < 12; round += 1) {
    const opened = await page.evaluate(() => {
      const closed = [...document.querySelectorAll("details:not([open])")];
      closed.forEach((details) => (details.open = true));
      return closed.length;
    });
    await page.waitForTimeout(50);
    if (opened === 0) break;
  }
  assert.equal(await page.locator("details:not([open])").count(), 0);
  assert.equal(await page.locator("details:not(:has(> :nth-child(2)))").count(), 0, "none is empty");
  assert.deepEqual(page.problems, []);
});

test("the reference resolves what the document refers to", async () => {
  const page = await open("/docs");
  const chat = page.locator("#createChatCompletion");
  await chat.waitFor();
  assert.equal(await page.locator("#content b, #content a[href^=javascript]").count(), 0);
  const types = await chat.locator(".media").first().locator("> .table > table > tbody > tr > .type").allTextContents();
  assert.deepEqual(types, ["string", "array of Message", "number or null", "string or array of string", "Lookahead"]);
  await chat.locator("summary", { hasText: "Lookahead" }).click();
  await chat.locator("th", { hasText: "share" }).waitFor();
  const curl = await chat.locator(".example code").last().textContent();
  assert.match(curl, /Authorization: Bearer/);
  assert.match(curl, /What'\\''s blue\?/, "quoted for a shell");
  assert.match(await page.locator("#deleteCorpus .example code").textContent(), /-X DELETE '.*\/v1\/lookahead\/corpora\/manual'/);
  assert.equal((await page.locator("#get-health .example code").textContent()).includes("Authorization"), false);
});
