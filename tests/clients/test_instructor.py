"""Structured output through `instructor`, unmodified. It wants an older `openai` than the other tests: see instructor.txt."""

import openai
import pytest
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from serving import BASE_URL, KEYS, MODEL, QUESTION

instructor = pytest.importorskip("instructor")

OPENAI = openai.OpenAI(base_url=BASE_URL, api_key=KEYS[0], max_retries=0)
FIELDS = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 100}


class River(BaseModel, extra="forbid"):
    name: str = Field(max_length=20)
    kilometres: int = Field(ge=0, le=9999)


class Attempt(BaseModel, extra="forbid"):
    """Wrong at first, whatever the model says: the client sends the error back and asks again."""

    city: str = Field(max_length=12)

    @field_validator("city")
    @classmethod
    def second(cls, city: str, info: ValidationInfo) -> str:
        info.context["seen"].append(city)
        if len(info.context["seen"]) == 1:
            raise ValueError("name another city")
        return city


def patched(mode):
    return instructor.from_openai(OPENAI, mode=mode)


# Of JSON without the schema a small model makes what it likes: that mode is left out.
MODES = [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_is_a_model(mode):
    river, answer = patched(mode).chat.completions.create_with_completion(response_model=River, max_retries=0, **FIELDS)
    assert isinstance(river, River)
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_model_grows_in_a_stream(mode):
    # Token by token: a draft may bring the whole answer at once, above all where the same was asked before.
    plain = {"lookahead": {"enabled": False}}
    *parts, last = patched(mode).chat.completions.create_partial(response_model=River, extra_body=plain, **FIELDS)
    assert any(part.name and part.kilometres is None for part in parts)
    assert last.name and last.kilometres is not None


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_is_not_valid_is_asked_for_again(mode):
    seen = []
    create = patched(mode).chat.completions.create
    attempt = create(response_model=Attempt, max_retries=2, context={"seen": seen}, **FIELDS)
    assert len(seen) == 2 and attempt.city == seen[1]


def test_a_response_is_a_model():
    client = patched(instructor.Mode.RESPONSES_TOOLS)
    fields = {"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 100}
    assert isinstance(client.responses.create(response_model=River, max_retries=0, **fields), River)
