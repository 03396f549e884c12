// A headless Chromium on the mock or on a real server, and what tests do with a page.

import { after, afterEach, before, test as testAnywhere } from "node:test";
import { chromium } from "playwright-core";
import { startMock } from "./mock.mjs";

export const REAL = process.env.BASE_URL?.replace(/\/$/, "");
const PATIENCE_MS = REAL ? 180_000 : 15_000;
const DESKTOP = { width: 1280, height: 820 };
export const PHONE = { width: 360, height: 740 };

let browser;
export let mock;
let contexts = [];

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Containers seldom allow the browser's own sandbox, and it shows only pages of ours.
    args: ["--no-sandbox"],
  });
  mock = REAL ? null : await startMock();
});

afterEach(async () => {
  await Promise.all(contexts.map((context) => context.close()));
  contexts = [];
});

after(async () => {
  await browser?.close();
  await mock?.close();
});

// ---------------------------------------------------------------- helpers

// A test of the page: the mock's answers can be foreseen, and are all that it needs.
export const test = (name, body) => testAnywhere(name, { skip: REAL && "needs the mock alone" }, body);

// A test of what the page takes from its server: it runs against a real one, too.
export const testWithServer = (name, body) => testAnywhere(name, body);

export async function open(path = "/", { base = REAL ?? mock.url, ...options } = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  contexts.push(context);
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.problems = [];
  page.foreign = [];
  page.on("console", (message) => message.type() === "error" && page.problems.push(message.text()));
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== "data:" && origin !== base) page.foreign.push(request.url());
  });
  const key = process.env.LOOKAHEAD_API_KEY;
  if (REAL && key) await page.addInitScript((value) => sessionStorage.setItem("lookahead.key", value), key);
  await page.goto(base + path);
  return page;
}

// Answers of a real model end after some tokens, so that the tests do.
export async function limit(page, tokens = 64) {
  await page.click("#open-settings");
  await page.fill("#max_tokens", String(tokens));
  await page.fill("#temperature", "0");
  await page.click("#settings-form .primary");
}

export async function ask(page, question) {
  const before = await page.locator(".turn").count();
  await page.fill("#question", question);
  await page.press("#question", "Enter");
  // Not for the stop button: an answer that is refused at once shows it too briefly.
  await page.locator(".turn").nth(before).waitFor();
}

export const settled = (page) => page.locator("#send").waitFor();

export async function answered(page, question) {
  await ask(page, question);
  await settled(page);
  return page.locator(".turn").last();
}

export async function picture(page, name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png` });
}

export const stat = (answer, name) => answer.locator(`[data-stat="${name}"]`).first().textContent();

export async function overflow(page) {
  return page.evaluate(() => {
    const root = document.documentElement;
    const scroller = document.querySelector(".scroller") ?? root;
    return Math.max(root.scrollWidth - root.clientWidth, scroller.scrollWidth - scroller.clientWidth);
  });
}

// Contrast of each element's text and underline with what lies behind it, after WCAG 2. A canvas does the blending.
export function contrasts(selector) {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const pixel = (...layers) => {
    canvas.fillStyle = "#fff";
    canvas.fillRect(0, 0, 1, 1);
    for (const layer of layers) {
      canvas.fillStyle = layer;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  return [...document.querySelectorAll(selector)].map((element) => {
    const behind = [];
    for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const style = getComputedStyle(element);
    return {
      name: element.textContent.trim().slice(0, 30),
      text: ratio(pixel(...behind, style.color), pixel(...behind)),
      line: ratio(pixel(...behind, style.textDecorationColor), pixel(...behind)),
      stroke: `${style.textDecorationLine} ${style.textDecorationStyle}`,
    };
  });
}
