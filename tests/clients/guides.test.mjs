// The snippets of docs/clients.md in JavaScript run as written, against a server of ours: BASE_URL (with /v1), API_KEY.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const { BASE_URL, API_KEY } = process.env;
const headers = { Authorization: `Bearer ${API_KEY}` };
const model = (await (await fetch(`${BASE_URL}/models`, { headers })).json()).data[0].id;
const guide = readFileSync(new URL("../../docs/clients.md", import.meta.url), "utf8");
const snippets = [...guide.matchAll(/^```js\n(.*?)^```$/gms)].map(([, snippet]) => snippet);

test("the guide has snippets", () => assert.ok(snippets.length > 0));

for (const [index, snippet] of snippets.entries()) {
  test(`snippet ${index + 1} answers`, () => {
    const input = snippet
      .replaceAll("http://127.0.0.1:8080", new URL(BASE_URL).origin)
      .replaceAll('"local"', JSON.stringify(model))
      .replaceAll('"none"', JSON.stringify(API_KEY));
    const options = { cwd: import.meta.dirname, input, encoding: "utf8" };
    const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module"], options);
    assert.equal(status, 0, stderr);
    assert.ok(stdout.trim(), "it prints nothing");
  });
}
