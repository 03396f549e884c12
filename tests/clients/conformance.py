"""What a server of ours does with each field, beside llama.cpp's: the table of docs/conformance.md.

    python tests/clients/conformance.py OURS_URL LLAMA_CPP_URL > docs/conformance.md

Both serve the same model (SmolLM2-135M-Instruct), llama.cpp's with --jinja. For each field a request asks for something that
can be seen in the answer; the table says what was seen.
"""

import json
import sys

import httpx

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}}
OTHER_TOOL = {"type": "function", "function": {"name": "get_time", "parameters": SCHEMA}}


UNKNOWN = "is no argument of this request"


class Server:
    def __init__(self, url):
        self.client = httpx.Client(base_url=url, timeout=300)

    def post(self, path, body):
        return self.client.post(path, json=body)

    def chat(self, question="Name a river of Europe.", **fields):
        body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 12}
        return self.post(CHAT, {key: value for key, value in (body | fields).items() if value is not ...})

    def text(self, **fields):
        return self.post(TEXT, {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 8} | fields)


class Refused(Exception):
    """A status that is no success, and the message."""


def ok(answer):
    if answer.status_code != 200:
        try:
            message = answer.json()["error"]["message"].splitlines()[0].split(";")[0].split(" - ")[0]
            raise Refused(f"{answer.status_code}" if UNKNOWN in message else f"{answer.status_code}: {message}")
        except (ValueError, KeyError, TypeError):
            raise Refused(f"{answer.status_code}") from None
    return answer.json()


def said(answer):
    choice = ok(answer)["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def tokens(answer):
    body = ok(answer)
    return f"{body['usage']['completion_tokens']} tokens, {body['choices'][0]['finish_reason']}"


def stops(stop):
    def probe(server):
        answer = server.text(prompt="One, two, three, four,", stop=stop, max_tokens=20)
        return f"{tokens(answer).split(', ')[1]}, {'with' if ',' in said(answer) else 'without'} it"

    return probe


def has_effect(**fields):
    """Whether the field changes a greedy answer."""
    return lambda server: "another text" if said(server.chat(**fields)) != said(server.chat()) else "no effect"


def is_greedy(**fields):
    """Whether the field leaves the likeliest token alone, of a hot distribution."""
    plain = {"seed": 1, "temperature": 1.5}
    return lambda server: "as greedy" if said(server.chat(**plain, **fields)) == said(server.chat()) else "no effect"


def is_json(**fields):
    def probe(server):
        try:
            value = json.loads(said(server.chat("Answer in JSON: which city is the capital of France?", max_tokens=400, **fields)))
        except ValueError:
            return "no JSON"
        return "JSON by the schema" if isinstance(value, dict) and list(value) == ["city"] else "JSON"

    return probe


def taken(**fields):
    """Whether it is accepted, whatever it does."""
    return lambda server: said(server.chat(**fields)) is not None and "accepted"


def status(method, path, **body):
    return lambda server: f"{server.client.request(method, path, json=body or None).status_code}"


def stream(**fields):
    def probe(server):
        lines = [line for line in server.chat(stream=True, **fields).text.splitlines() if line.startswith("data: ")]
        pieces = [json.loads(line[6:]) for line in lines[:-1]]
        usage = [piece for piece in pieces if piece.get("usage")]
        end = "[DONE]" if lines[-1] == "data: [DONE]" else lines[-1]
        return f"{pieces[0]['object']}, {end}, {'with' if usage else 'no'} usage, {len(usage and usage[-1]['choices'])} choices in it"

    return probe


def calls(**fields):
    def probe(server):
        choice = ok(server.chat("What is the weather in Paris?", max_tokens=200, **fields))["choices"][0]
        names = [call["function"]["name"] for call in choice["message"].get("tool_calls") or []]
        return f"calls {', '.join(sorted(set(names)))}, {choice['finish_reason']}" if names else "no call"

    return probe


CONTINUED = {"messages": [{"role": "user", "content": "Tell."}, {"role": "assistant", "content": "Once"}]}


def prompt_tokens(server, **fields):
    return ok(server.chat(**fields))["usage"]["prompt_tokens"]


def seeds(server):
    one, same, other = (said(server.chat(temperature=1.5, seed=seed, max_tokens=24)) for seed in (1, 1, 2))
    return f"{'same' if one == same else 'another'} text with it, {'same' if one == other else 'another'} with another"


def banned(form):
    def probe(server):
        first = ok(server.post("/tokenize", {"content": said(server.chat(max_tokens=1))}))["tokens"][0]
        return "another text" if said(server.chat(logit_bias=form(first))) != said(server.chat()) else "no effect"

    return probe


def ids(server, text):
    return ok(server.post("/tokenize", {"content": text}))["tokens"]


def ollama_chat(server):
    model = ok(server.client.get("/v1/models"))["data"][0]["id"]
    body = {"model": model, "messages": USER, "stream": False, "options": {"num_predict": 1}}
    answer = ok(server.post("/api/chat", body))
    return "a message" if "message" in answer else "OpenAI's form"


def chat_logprobs(server):
    token = ok(server.chat(logprobs=True, top_logprobs=3))["choices"][0]["logprobs"]["content"][0]
    return f"{len(token['top_logprobs'])} of each, with {', '.join(sorted(set(token) & {'token', 'logprob', 'bytes'}))}"


def text_logprobs(server):
    logprobs = ok(server.text(logprobs=2))["choices"][0].get("logprobs") or {}
    return f"with {', '.join(sorted(logprobs))}"


def prompts(prompt, **fields):
    return lambda server: f"{len(ok(server.text(prompt=prompt, **fields))['choices'])} of them"


def error(body, path=CHAT):
    def probe(server):
        answer = server.client.post(path, content=body if isinstance(body, str) else json.dumps(body))
        try:
            fields = ", ".join(sorted(answer.json()["error"]))
        except (ValueError, KeyError, TypeError):
            fields = "nothing"
        return f"{answer.status_code} with {fields}"

    return probe


USER = [{"role": "user", "content": "Hi"}]
SECTIONS = {
    "Messages": [
        ("`messages`: system, user, assistant", taken(messages=[{"role": "system", "content": "Be brief."}, *USER, {"role": "assistant", "content": "Hello."}, *USER]), ""),
        ("`messages`: developer", taken(messages=[{"role": "developer", "content": "Be brief."}, *USER]), ""),
        ("`messages`: tool", taken(messages=[*USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "1", "content": "3"}]), ""),
        ("`content` in parts of text", taken(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]), ""),
        ("`content` with an image", taken(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]), "a client's mistake is no server error"),
        ("an empty `messages`", taken(messages=[]), "there is nothing to answer"),
        ("`model`: another name", taken(model="gpt-4o"), "a wrong name is an error, as OpenAI's; `--model-name gpt-4o` makes it right"),
        ("`chat_template_kwargs`", taken(chat_template_kwargs={"x": 1}), ""),
        ("`add_generation_prompt`: false", lambda server: "a shorter prompt" if prompt_tokens(server, add_generation_prompt=False) < prompt_tokens(server) else "no effect", ""),
        ("`continue_final_message` (vLLM's)", lambda server: "a shorter prompt" if prompt_tokens(server, **CONTINUED, continue_final_message=True, add_generation_prompt=False) < prompt_tokens(server, **CONTINUED) else "no effect", "llama.cpp continues whatever an assistant said last"),
    ],
    "Length and number": [
        ("`max_tokens`", lambda server: tokens(server.chat(max_tokens=5)), ""),
        ("`max_completion_tokens`", lambda server: tokens(server.chat(max_tokens=..., max_completion_tokens=5)), ""),
        ("`n_predict`", lambda server: tokens(server.chat(max_tokens=..., n_predict=5)), ""),
        ("`max_tokens`: 0", lambda server: tokens(server.chat(max_tokens=0)), "OpenAI wants 1 or more"),
        ("`max_tokens`: -1", lambda server: tokens(server.chat("Say: A", max_tokens=-1)), "leave it out: the answer ends with the model or the context"),
        ("`n`", lambda server: f"{len(ok(server.chat(n=2))['choices'])} of them", ""),
        ("`stop`: a text", stops(","), ""),
        ("`stop`: texts", stops(["\n", ",", "."]), ""),
        ("`ignore_eos`", lambda server: tokens(server.chat("Say: A", max_tokens=40, ignore_eos=True)), "the end is passed, as vLLM does; llama.cpp forbids it"),
        ("`t_max_predict_ms`", taken(t_max_predict_ms=1000), "`--request-timeout` is the server's"),
    ],
    "Sampling": [
        ("`temperature`: 0", lambda server: "same twice" if said(server.chat()) == said(server.chat()) else "random", ""),
        ("`seed`", seeds, ""),
        ("`top_k`", is_greedy(top_k=1), ""),
        ("`top_p`", is_greedy(top_p=0.0001), ""),
        ("`min_p`", is_greedy(min_p=1.0), ""),
        ("`repeat_penalty`", has_effect(repeat_penalty=1.8, max_tokens=40), ""),
        ("`repeat_last_n`", lambda server: "as without the penalty" if said(server.chat(max_tokens=40, repeat_penalty=1.8, repeat_last_n=0)) == said(server.chat(max_tokens=40)) else "no effect", ""),
        ("`presence_penalty`", has_effect(presence_penalty=2, max_tokens=40), ""),
        ("`frequency_penalty`", has_effect(frequency_penalty=2, max_tokens=40), ""),
        ("`logit_bias`: an object", banned(lambda token: {str(token): -100}), ""),
        ("`logit_bias`: pairs", banned(lambda token: [[token, -100]]), ""),
        ("`typical_p`", taken(typical_p=0.5), "not supported"),
        ("`dynatemp_range`", taken(dynatemp_range=0.5), "not supported"),
        ("`mirostat`", taken(mirostat=2), "it remembers what it drew, which drafts do not allow"),
        ("`dry_multiplier`", taken(dry_multiplier=0.8), "not supported"),
        ("`xtc_probability`", taken(xtc_probability=0.5), "not supported"),
        ("`samplers`", taken(samplers=["top_k", "temperature"]), "passed over: the order is fixed"),
        ("samplers that are off: `typical_p`: 1, `mirostat`: 0, …", taken(typical_p=1, mirostat=0, mirostat_tau=5, xtc_probability=0, dry_multiplier=0, dry_base=1.75), ""),
        ("`min_keep`", taken(min_keep=2), "not supported"),
    ],
    "Structure and tools": [
        ("`response_format`: json_object", is_json(response_format={"type": "json_object"}), ""),
        ("`response_format`: json_object with `schema`", is_json(response_format={"type": "json_object", "schema": SCHEMA}), ""),
        ("`response_format`: json_schema", is_json(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}), ""),
        ("`json_schema`", is_json(json_schema=SCHEMA), ""),
        ("`grammar` (GBNF)", lambda server: said(server.chat(grammar='root ::= "yes" | "no"')), ""),
        ("`structured_outputs` (vLLM's)", lambda server: "follows it" if said(server.chat(structured_outputs={"choice": ["yes", "no"]})) in ("yes", "no") else "no effect", "llama.cpp passes over it"),
        ("`guided_regex` (vLLM's older names)", lambda server: "follows it" if said(server.chat(guided_regex="yes|no")) in ("yes", "no") else "no effect", "llama.cpp passes over it"),
        ("`tools`, `tool_choice`: auto", calls(tools=[TOOL]), "the model may call or not; that its calls follow the schema is what holds"),
        ("`tool_choice`: required", calls(tools=[TOOL], tool_choice="required", parallel_tool_calls=False), "llama.cpp lets this model answer with a text"),
        ("`tool_choice`: a function", calls(tools=[TOOL, OTHER_TOOL], tool_choice={"type": "function", "function": {"name": "get_time"}}), "as above"),
        ("`tool_choice`: none", calls(tools=[TOOL], tool_choice="none"), ""),
        ("`parallel_tool_calls`: false", taken(tools=[TOOL], parallel_tool_calls=False), ""),
        ("`tools` with `response_format`", calls(tools=[TOOL], parallel_tool_calls=False, response_format={"type": "json_object"}), "an answer is a call or JSON; llama.cpp lets this model answer with a text"),
    ],
    "Answers": [
        ("`stream`", stream(), ""),
        ("`stream_options.include_usage`", stream(stream_options={"include_usage": True}), ""),
        ("`logprobs`, `top_logprobs`", chat_logprobs, ""),
        ("`n_probs`", taken(n_probs=2), "`top_logprobs`"),
        ("`post_sampling_probs`", taken(post_sampling_probs=True), "log probabilities are the model's own"),
        ("`prediction`", lambda server: "counted" if ok(server.chat(prediction={"type": "content", "content": "The Danube."}))["usage"].get("completion_tokens_details") else "not counted", "drafts; llama.cpp passes over it"),
        ("`return_tokens`", taken(return_tokens=True), "`logprobs` has the tokens"),
        ("`return_progress`", taken(return_progress=True), "not supported"),
        ("`timings_per_token`", taken(timings_per_token=True), "passed over; `usage.lookahead` tells what a request took"),
        ("`response_fields`", taken(response_fields=["choices"]), "not supported"),
    ],
    "For the server": [
        ("`cache_prompt`", taken(cache_prompt=False), "passed over: a cached prefix never changes an answer"),
        ("`id_slot`", taken(id_slot=0), "passed over: any sequence takes over any prefix"),
        ("`lora`", taken(lora=[]), "no adapters"),
        ("`n_keep`", taken(n_keep=5), "passed over: contexts are not shifted"),
        ("`user`, `store`, `metadata`, `service_tier`", taken(user="u", store=False, metadata={}, service_tier="auto"), ""),
        ("a field that nobody knows", taken(surprise=1), "what is asked for is done, or refused"),
    ],
    "Completions": [
        ("`prompt`: a text", prompts("The capital of France is"), ""),
        ("`prompt`: texts", prompts(["The capital of France is", "One, two,"]), ""),
        ("`prompt`: tokens", prompts([1, 2, 3]), ""),
        ("`prompt`: lists of tokens", prompts([[1, 2, 3], [4, 5]]), ""),
        ("`n`", prompts("One, two,", n=2), ""),
        ("`echo`", lambda server: "begins with the prompt" if said(server.text(echo=True)).startswith("The capital") else "no effect", "llama.cpp passes over it"),
        ("`suffix`", lambda server: said(server.text(suffix="x")) and "accepted", "this model was not trained to fill in the middle; llama.cpp passes over it"),
        ("`echo` with `logprobs`", lambda server: "the prompt's too" if None in ok(server.text(echo=True, logprobs=1))["choices"][0]["logprobs"].get("token_logprobs", []) else "the answer's only", "what programs that score texts ask for"),
        ("`stop_token_ids`", lambda server: tokens(server.text(stop_token_ids=ids(server, ","), prompt="One, two, three", max_tokens=20)), "vLLM's"),
        ("`min_tokens`", lambda server: "kept" if ok(server.text(min_tokens=5, logit_bias={"2": 50}))["usage"]["completion_tokens"] > 5 else "no effect", "vLLM's"),
        ("`truncate_prompt_tokens`", lambda server: f"{ok(server.text(truncate_prompt_tokens=2))['usage']['prompt_tokens']} tokens", "vLLM's"),
        ("`best_of`", lambda server: said(server.text(best_of=2)) and "accepted", "llama.cpp passes over it"),
        ("`logprobs`", text_logprobs, "OpenAI's lists of texts; llama.cpp gives those of chats"),
    ],
    "Errors": [
        ("no JSON", error("{"), "a client's mistake is no server error; `param` is the field"),
        ("`temperature`: a text", error({"messages": USER, "temperature": "hot"}), ""),
        ("no `messages`", error({}), ""),
        ("a prompt beyond the context", error({"messages": [{"role": "user", "content": "x y " * 9000}]}), ""),
        ("`top_p`: 7", error({"messages": USER, "max_tokens": 1, "top_p": 7}), "out of range is refused"),
        ("an unknown path", error({}, "/v1/nothing"), ""),
    ],
    "Routes": [
        ("`GET /v1/models`", status("GET", "/v1/models"), ""),
        ("`GET /v1/models/{model}`", lambda server: str(server.client.get("/v1/models/" + ok(server.client.get("/v1/models"))["data"][0]["id"]).status_code), "as OpenAI"),
        ("`POST /v1/embeddings`", status("POST", "/v1/embeddings", input="x"), "501: models that generate have no pooling; llama.cpp wants `--embeddings`"),
        ("`POST /tokenize`", lambda server: str(ok(server.post("/tokenize", {"content": "Hello world"}))["tokens"]), ""),
        ("`POST /tokenize` with `with_pieces`", lambda server: type(ok(server.post("/tokenize", {"content": "Hi", "with_pieces": True}))["tokens"][0]).__name__, ""),
        ("`POST /detokenize`", lambda server: ok(server.post("/detokenize", {"tokens": [19556, 905]}))["content"], ""),
        ("`GET /health`", status("GET", "/health"), ""),
        ("`GET /metrics`", status("GET", "/metrics"), "llama.cpp wants `--metrics`; names are each one's own"),
        ("`POST /completion`", status("POST", "/completion", prompt="x", n_predict=1), ""),
        ("`POST /infill`", status("POST", "/infill", input_prefix="x", input_suffix="y", n_predict=1), "as `suffix`"),
        ("`POST /apply-template`", status("POST", "/apply-template", messages=USER), ""),
        ("`GET /props`", status("GET", "/props"), ""),
        ("`GET /slots`", status("GET", "/slots"), ""),
        ("`POST /api/chat` (Ollama's)", ollama_chat, ""),
        ("`GET /api/tags` (Ollama's)", status("GET", "/api/tags"), ""),
        ("`POST /v1/responses`", status("POST", "/v1/responses", input="Hi", max_output_tokens=1), ""),
        ("`POST /v1/messages`", status("POST", "/v1/messages", messages=USER, max_tokens=1), ""),
    ],
}  # fmt: skip

HEAD = """\
# Field by field, beside llama.cpp's server

For each field a request that asks for something that can be seen in the answer, sent to both servers with the same model
(SmolLM2-135M-Instruct, Q4_1); the table says what was seen. *same*: both do the same. *differs*: both answer, not alike.
*refused*: we do not do it and say so. *ours*: we do it and llama.cpp's server does not. Written by
`python tests/clients/conformance.py OURS_URL LLAMA_CPP_URL`, llama.cpp's server with `--jinja`.
"""


def seen(probe, server):
    try:
        return probe(server)
    except Refused as refused:
        return str(refused)


def verdict(ours, theirs):
    refuses = [text[:3].isdigit() and text[0] in "45" for text in (ours, theirs)]
    if ours == theirs or all(refuses) and ours[:3] == theirs[:3]:
        return "same"
    if all(refuses):
        return "differs"
    return "refused" if refuses[0] else "ours" if refuses[1] or theirs in ("no effect", "not counted") else "differs"


def main(ours, theirs):
    print(HEAD)
    counts = {}
    for title, rows in SECTIONS.items():
        print(f"## {title}\n\n| | lookahead | llama.cpp | | why |\n| --- | --- | --- | --- | --- |")
        for name, probe, why in rows:
            first, second = (str(seen(probe, server)).replace("|", "\\|").replace("\n", " ") for server in (ours, theirs))
            result = verdict(first, second)
            counts[result] = counts.get(result, 0) + 1
            print(f"| {name} | {first} | {second} | {result} | {why if result != 'same' else ''} |")
        print()
    print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())) + ".")


if __name__ == "__main__":
    main(*map(Server, sys.argv[1:3]))
