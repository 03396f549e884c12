// The API reference: /openapi.json (OpenAPI 3.1) made readable. Text of the document only ever becomes text nodes.

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];
const CONSTRAINTS = [
  ["minimum", "≥ "], ["exclusiveMinimum", "> "], ["maximum", "≤ "], ["exclusiveMaximum", "< "],
  ["minLength", "length ≥ "], ["maxLength", "length ≤ "], ["minItems", "items ≥ "], ["maxItems", "items ≤ "],
  ["pattern", "matches "],
];
// Schemas may contain themselves: what follows them must end somewhere.
const DEPTH = 6;

let api = {};

// ---------------------------------------------------------------- small helpers

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const code = (text) => el("code", { textContent: text });

// Descriptions are Markdown; paragraphs, lists of one level, code and links are what they use.
function prose(text, className = "prose") {
  const holder = el("div", { className });
  for (const block of (text ?? "").trim().split(/\n{2,}/)) {
    if (block) holder.append(paragraphOrList(block));
  }
  return holder;
}

function paragraphOrList(block) {
  const lines = block.split("\n");
  if (!lines.every((line) => /^\s*[-*] |^\s+\S/.test(line))) return el("p", {}, ...inline(lines.join(" ")));
  const items = block.split(/\n?^\s*[-*] /m).filter(Boolean);
  return el("ul", { className: "bullets" }, ...items.map((item) => el("li", {}, ...inline(item.replace(/\s+/g, " ")))));
}

function inline(text) {
  const parts = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/);
  return parts.map((part) => {
    if (/^`.+`$/.test(part)) return code(part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return el("strong", { textContent: part.slice(2, -2) });
    const link = /^\[(.+)\]\((.+)\)$/.exec(part);
    // Only what leads to a page: no javascript: address.
    if (link && /^(https?:|\/|#)/.test(link[2])) return el("a", { href: link[2], textContent: link[1] });
    return part;
  });
}

// ---------------------------------------------------------------- references and types

function resolve(thing) {
  let found = thing ?? {};
  for (let hops = 0; found.$ref && hops < 32; hops += 1) {
    const { $ref, ...beside } = found;
    found = { ...follow($ref), ...beside };
  }
  return found;
}

function follow(ref) {
  if (!ref.startsWith("#/")) return {};
  const steps = ref.slice(2).split("/").map((step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((at, step) => at?.[step], api) ?? {};
}

// A schema with its references followed and its allOf parts merged into it.
function flat(schema) {
  if (schema === true || schema === undefined) return {};
  const own = resolve(schema);
  if (!own.allOf) return own;
  const { allOf, ...rest } = own;
  return [...allOf.map(flat), rest].reduce((merged, part) => ({
    ...merged,
    ...part,
    properties: { ...merged.properties, ...part.properties },
    required: [...(merged.required ?? []), ...(part.required ?? [])],
  }), {});
}

const nameOf = (schema) => /^#\/components\/schemas\/(.+)$/.exec(schema?.$ref ?? "")?.[1];
const alternatives = (schema) => schema.oneOf ?? schema.anyOf ?? null;

function typeOf(schema, within = []) {
  const own = flat(schema);
  const name = nameOf(schema);
  if (name && within.includes(name)) return name;
  const inside = [...within, name];
  if ("const" in own) return JSON.stringify(own.const);
  const options = alternatives(own);
  if (options) return [...new Set(options.map((option) => typeOf(option, inside)))].join(" or ");
  const types = [own.type ?? (own.properties ? "object" : own.enum ? "string" : "any")].flat();
  return types.map((type) => typeName(type, own, name, inside)).join(" or ");
}

function typeName(type, own, name, inside) {
  if (type === "array") return `array of ${typeOf(own.items, inside)}`;
  if (type === "object" && name) return name;
  return own.format ? `${type} (${own.format})` : type;
}

// The schema whose fields are worth a table inside this one: itself, or what its arrays and alternatives hold.
function inner(schema, depth = 0) {
  const own = flat(schema);
  if (depth > DEPTH) return [];
  if (own.items) return inner(own.items, depth + 1);
  const options = alternatives(own);
  if (options) return options.flatMap((option) => inner(option, depth + 1));
  if (typeof own.additionalProperties === "object" && !own.properties) return inner(own.additionalProperties, depth + 1);
  return own.properties ? [schema] : [];
}

function constraintsOf(own) {
  const parts = [];
  if (own.enum) parts.push(...["one of ", own.enum.map((value) => JSON.stringify(value)).join(", ")]);
  for (const [name, sign] of CONSTRAINTS) {
    if (own[name] !== undefined) parts.push(`${parts.length ? "; " : ""}${sign}${own[name]}`);
  }
  if (own.default !== undefined) parts.push(`${parts.length ? "; " : ""}default ${JSON.stringify(own.default)}`);
  return parts.join("");
}

// ---------------------------------------------------------------- tables

function fieldsTable(schema, ancestors = []) {
  const own = flat(schema);
  const required = new Set(own.required ?? []);
  const fields = Object.entries(own.properties ?? {});
  const rows = fields.map(([name, field]) => fieldRow(name, field, required.has(name), ancestors));
  return table("Field", rows);
}

function table(first, rows) {
  const head = el("tr", {}, ...[first, "Type", "Meaning"].map((title) => el("th", { scope: "col", textContent: title })));
  return el("div", { className: "table" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

function fieldRow(name, schema, required, ancestors) {
  const own = flat(schema);
  const meaning = el("td", {}, prose(own.description));
  const limits = constraintsOf(own);
  if (limits) meaning.append(el("p", { className: "limits", textContent: limits }));
  for (const nested of inner(schema)) meaning.append(nestedFields(nested, ancestors));
  return el("tr", {}, nameCell(name, required, own.deprecated), typeCell(schema), meaning);
}

const typeCell = (schema) => el("td", { className: "type" }, code(typeOf(schema)));

function nameCell(name, required, deprecated) {
  return el("th", { scope: "row" }, code(name),
    required ? el("span", { className: "required", textContent: "required" }) : null,
    deprecated ? el("span", { className: "required", textContent: "deprecated" }) : null);
}

// Built when first opened: a schema may contain itself.
function nestedFields(schema, ancestors) {
  const name = nameOf(schema);
  const title = flat(schema).title ?? name ?? "Fields";
  if (name && ancestors.includes(name)) return el("p", { className: "limits", textContent: `${title}, as above` });
  const details = el("details", {}, el("summary", { textContent: title }));
  const fill = () => details.append(fieldsTable(schema, [...ancestors, name]));
  details.addEventListener("toggle", fill, { once: true });
  return details;
}

function parametersTable(parameters) {
  const rows = parameters.map((parameter) => {
    const own = flat(parameter.schema);
    const meaning = el("td", {}, prose(parameter.description ?? own.description));
    const limits = constraintsOf(own);
    if (limits) meaning.append(el("p", { className: "limits", textContent: limits }));
    const where = el("span", { className: "where", textContent: parameter.in });
    const name = nameCell(parameter.name, parameter.required, parameter.deprecated);
    name.append(where);
    return el("tr", {}, name, typeCell(parameter.schema), meaning);
  });
  return table("Parameter", rows);
}

function contentView(content) {
  return Object.entries(content ?? {}).map(([mediaType, media]) => {
    const title = el("p", { className: "media-type" }, code(mediaType), ` ${typeOf(media.schema)}`);
    const holder = el("div", { className: "media" }, title);
    const description = flat(media.schema).description;
    if (description) holder.append(prose(description));
    const tables = inner(media.schema);
    if (tables.length === 1) holder.append(fieldsTable(tables[0], [nameOf(tables[0])]));
    else holder.append(...tables.map((schema) => nestedFields(schema, [])));
    return holder;
  });
}

// ---------------------------------------------------------------- examples

function exampleOf(media) {
  if (!media) return undefined;
  if (media.example !== undefined) return media.example;
  const named = Object.values(media.examples ?? {})[0];
  if (named) return resolve(named).value;
  return sample(media.schema, 0);
}

function sample(schema, depth) {
  const own = flat(schema);
  const given = [own.example, own.examples?.[0], own.const, own.default, own.enum?.[0]].find((value) => value !== undefined);
  if (given !== undefined) return given;
  if (depth > DEPTH) return null;
  const options = alternatives(own);
  if (options) return sample(options[0], depth + 1);
  return sampleOfType([own.type ?? (own.properties ? "object" : "string")].flat()[0], own, depth);
}

function sampleOfType(type, own, depth) {
  if (type === "array") return own.items ? [sample(own.items, depth + 1)] : [];
  if (type === "object") return sampleObject(own, depth);
  if (type === "integer" || type === "number") return own.minimum ?? 1;
  if (type === "boolean") return true;
  return type === "null" ? null : "text";
}

// What is not required makes an example long and says little.
function sampleObject(own, depth) {
  const names = Object.keys(own.properties ?? {}).filter((name) => own.required?.includes(name));
  return Object.fromEntries(names.map((name) => [name, sample(own.properties[name], depth + 1)]));
}

const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

function curlOf(operation) {
  const { method, path, spec, parameters } = operation;
  const verb = method === "get" ? "" : `-X ${method.toUpperCase()} `;
  const lines = [`curl ${verb}${quoted(location.origin + filledPath(path, parameters))}`];
  if (needsKey(spec)) lines.push('-H "Authorization: Bearer $LOOKAHEAD_API_KEY"');
  const [mediaType, media] = Object.entries(resolve(spec.requestBody).content ?? {})[0] ?? [];
  if (mediaType) lines.push(`-H ${quoted(`Content-Type: ${mediaType}`)}`, bodyArgument(mediaType, exampleOf(media)));
  return lines.join(" \\\n  ");
}

function bodyArgument(mediaType, example) {
  if (mediaType.endsWith("json") && typeof example !== "string") return `-d ${quoted(JSON.stringify(example, null, 2))}`;
  return `--data-binary ${quoted(example)}`;
}

function filledPath(path, parameters) {
  const valueOf = ({ example: given, examples, schema }) =>
    given ?? Object.values(examples ?? {})[0]?.value ?? sample(schema, 0);
  let filled = path;
  const query = new URLSearchParams();
  for (const parameter of parameters) {
    if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(valueOf(parameter)));
    if (parameter.in === "query" && parameter.required) query.set(parameter.name, valueOf(parameter));
  }
  return query.size ? `${filled}?${query}` : filled;
}

function needsKey(spec) {
  const demands = spec.security ?? api.security ?? [];
  return demands.some((demand) => Object.keys(demand).length > 0);
}

function example(text) {
  const pre = el("pre", { tabIndex: 0, "aria-label": "Example" }, code(text));
  const block = el("div", { className: "example" }, pre);
  if (navigator.clipboard) block.append(copyButton(text));
  return block;
}

function copyButton(text) {
  const button = el("button", { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

// ---------------------------------------------------------------- operations

function operations() {
  const found = [];
  for (const [path, item] of Object.entries(api.paths ?? {})) {
    for (const method of METHODS) {
      const spec = item[method];
      if (!spec) continue;
      const parameters = [...(item.parameters ?? []), ...(spec.parameters ?? [])].map(resolve);
      const id = spec.operationId ?? `${method}${path.replace(/\W+/g, "-")}`;
      found.push({ id, method, path, spec, parameters, tag: spec.tags?.[0] ?? "Other" });
    }
  }
  return found;
}

// In the order in which the document lists its tags; unlisted ones come last.
function groups() {
  const listed = new Map((api.tags ?? []).map((tag) => [tag.name, { ...tag, operations: [] }]));
  for (const operation of operations()) {
    if (!listed.has(operation.tag)) listed.set(operation.tag, { name: operation.tag, operations: [] });
    listed.get(operation.tag).operations.push(operation);
  }
  return [...listed.values()].filter((group) => group.operations.length);
}

function methodBadge(method) {
  return el("span", { className: `method ${method}`, textContent: method.toUpperCase() });
}

function operationView(operation) {
  const { id, method, path, spec, parameters } = operation;
  const view = el("article", { className: "operation", id },
    el("h3", {}, methodBadge(method), " ", el("a", { href: `#${id}`, className: "path" }, code(path))),
    spec.summary ? el("p", { className: "summary", textContent: spec.summary }) : null,
    prose(spec.description));
  if (spec.deprecated) view.append(el("p", { className: "required", textContent: "Deprecated." }));
  if (parameters.length) view.append(el("h4", { textContent: "Parameters" }), parametersTable(parameters));
  if (spec.requestBody) {
    const body = resolve(spec.requestBody);
    view.append(el("h4", { textContent: "Request" }), prose(body.description), ...contentView(body.content));
  }
  view.append(el("h4", { textContent: "Responses" }), ...responsesView(spec.responses));
  view.append(el("h4", { textContent: "Example" }), example(curlOf(operation)));
  return view;
}

function responsesView(responses) {
  return Object.entries(responses ?? {}).map(([status, given]) => {
    const response = resolve(given);
    const title = [code(status), " ", ...inline(response.description ?? "")];
    if (!response.content && !response.headers) return el("p", { className: "response" }, ...title);
    const details = el("details", { className: "response" }, el("summary", {}, ...title));
    const { headers, content } = response;
    const fill = () => details.append(...headersView(headers), ...contentView(content), ...answerExample(content));
    details.addEventListener("toggle", fill, { once: true });
    return details;
  });
}

function headersView(headers) {
  if (!headers) return [];
  const rows = Object.entries(headers).map(([name, given]) => {
    const header = resolve(given);
    return fieldRow(name, { ...flat(header.schema), description: header.description }, header.required, []);
  });
  return [table("Header", rows)];
}

// Only what the document gives: an invented answer would look like a promise.
function answerExample(content) {
  const media = Object.values(content ?? {})[0];
  if (!media || (media.example === undefined && !media.examples)) return [];
  const value = exampleOf(media);
  return [example(typeof value === "string" ? value : JSON.stringify(value, null, 2))];
}

// ---------------------------------------------------------------- the page

function contentsView(all) {
  return all.map((group) => el("section", {},
    el("h2", { textContent: group.name }),
    el("ul", {}, ...group.operations.map(({ id, method, path }) =>
      el("li", {}, el("a", { href: `#${id}` }, methodBadge(method), " ", el("span", { textContent: path })))))));
}

function introduction() {
  const { title = "API", version = "", description } = api.info ?? {};
  return [
    el("h1", {}, title, " ", el("small", { textContent: version })),
    prose(description),
    el("p", { className: "raw" },
      "The raw document: ", el("a", { href: "/openapi.json", textContent: "/openapi.json" }), ` (OpenAPI ${api.openapi}).`),
  ];
}

function groupView({ name, description, operations: within }) {
  const title = el("h2", { textContent: name });
  return el("section", { className: "group" }, title, prose(description), ...within.map(operationView));
}

function render() {
  const all = groups();
  document.title = api.info?.title ?? document.title;
  document.getElementById("contents").replaceChildren(...contentsView(all));
  document.getElementById("content").replaceChildren(...introduction(), ...all.map(groupView));
  // The address named a part that did not exist until now.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

async function start() {
  try {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    api = await response.json();
    render();
  } catch (error) {
    document.getElementById("content").replaceChildren(
      el("p", { role: "alert", textContent: `The description of the API cannot be shown: ${error.message}.` }));
  }
}

start();
