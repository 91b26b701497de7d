"""The Python client of OpenAI, unchanged, against a served view. Takes the address of the server."""

import asyncio
import json
import sys
import urllib.request

import openai

url = sys.argv[1]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")


def post(path, body):
    request = urllib.request.Request(f"{url}{path}", data=body.encode(), method="POST")
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def ask(question, **more):
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="answers", messages=messages, **more)


assert [model.id for model in client.models.list()] == ["answers", "perennial-embedder"]
assert client.models.retrieve("answers").owned_by == "perennial"

question = "When does the library open on Sundays?"
first = ask(question)
text = first.choices[0].message.content
print("answer:", text)
assert text and first.choices[0].finish_reason in ("stop", "length")
annotations = first.choices[0].message.annotations
assert annotations, first
for annotation in annotations:
    of = annotation.url_citation
    print("  leans on:", text[of.start_index : of.end_index].strip(), "->", of.title, of.url)
assert {"Opening hours", "Cards"} >= {a.url_citation.title for a in annotations}
usage = first.usage
print("usage:", usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens)
assert usage.prompt_tokens > usage.prompt_tokens_details.cached_tokens
assert usage.completion_tokens > 0

again = ask(question, temperature=0, user="ada", seed=7)
assert again.choices[0].message.content == text
assert again.id == first.id and again.model_extra["perennial"]["kept"]
assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens
assert again.usage.completion_tokens == usage.completion_tokens

# Streamed, of a question that was asked and of one that was not.
for asked in (question, "What does a library card cost?"):
    said, told, last = "", None, None
    stream = ask(asked, stream=True, stream_options={"include_usage": True})
    n_chunks = 0
    for chunk in stream:
        n_chunks += 1
        if chunk.usage:
            told = chunk.usage
        for choice in chunk.choices:
            said += choice.delta.content or ""
            last = choice if choice.finish_reason else last
    assert last.delta.model_extra["annotations"], last
    assert told.total_tokens == told.prompt_tokens + told.completion_tokens
    assert said == ask(asked).choices[0].message.content
    print(f"streamed in {n_chunks} chunks:", said)

# A document is corrected: the answer is another, without its question being asked of the model for this.
line = {"key": "hours", "title": "Opening hours", "text": "The library opens at ten on weekdays and at one on Sundays."}
assert post("/v1/streams/notes?wait=60", json.dumps(line))["visible"]
corrected = ask(question)
print("corrected:", corrected.choices[0].message.content)
assert corrected.choices[0].message.content != text
assert corrected.model_extra["perennial"]["kept"]

# A conversation goes on.
reply = client.chat.completions.create(
    model="answers",
    messages=[
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question},
        {"role": "assistant", "content": text},
        {"role": "user", "content": [{"type": "text", "text": "And on weekdays?"}]},
    ],
    metadata={"conversation": "monday"},
)
assert reply.choices[0].message.content


async def together():
    several = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    messages = [{"role": "user", "content": question}]
    replies = [several.chat.completions.create(model="answers", messages=messages) for _ in range(8)]
    texts = {reply.choices[0].message.content for reply in await asyncio.gather(*replies)}
    assert texts == {corrected.choices[0].message.content}
    vectors = await several.embeddings.create(model="perennial-embedder", input=["a card", "a library card", "nine"])
    near, far = (
        sum(a * b for a, b in zip(vectors.data[0].embedding, vectors.data[other].embedding)) for other in (1, 2)
    )
    assert len(vectors.data[0].embedding) == 384 and near > far, (near, far)
    await several.close()


asyncio.run(together())
plain = client.embeddings.create(model="perennial-embedder", input="a card", encoding_format="float")
packed = client.embeddings.create(model="perennial-embedder", input="a card")
assert max(abs(a - b) for a, b in zip(plain.data[0].embedding, packed.data[0].embedding)) < 1e-6

for error, call in [
    (openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=[])),
    (openai.BadRequestError, lambda: ask(question, temperature=0.7)),
    (openai.BadRequestError, lambda: ask(question, n=2)),
    (openai.BadRequestError, lambda: ask(question, max_tokens=3)),
]:
    try:
        call()
    except error as refused:
        print("refused:", refused.code, "-", refused.body["message"])
    else:
        raise AssertionError(error)
print("openai", openai.__version__, "is content")
