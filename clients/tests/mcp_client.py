"""The Python client of the Model Context Protocol: over HTTP, and of the program itself.

Takes the address of the protocol at a server, the program, and a folder for its state."""

import asyncio
import importlib.metadata
import json
import os
import sys

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

url, program, state = sys.argv[1:]


async def call(session, tool, **arguments):
    result = await session.call_tool(tool, arguments)
    given = result.structured_content
    assert json.loads(result.content[0].text) == given
    return given, result.is_error


async def use(session, changed):
    await session.initialize()
    tools = {tool.name for tool in (await session.list_tools()).tools}
    assert {"ask", "views", "remember", "recall", "forget", "changes_since"} <= tools, tools
    given, is_error = await call(
        session, "remember", key="cafe", title="Café", text="The café of the library sells soup for six euros."
    )
    assert not is_error, given
    given, is_error = await call(session, "ask", question="What does soup cost in the café?")
    assert not is_error, given
    print("answer:", given["answer"])
    assert any(c["document"] == "cafe" for s in given["sentences"] for c in s["citations"]), given
    again, _ = await call(session, "ask", question="What does soup cost in the café?")
    assert again["kept"] and again["answer"] == given["answer"]
    uri = "perennial://views/answers"
    assert any(str(of.uri) == uri for of in (await session.list_resources()).resources)
    await session.subscribe_resource(uri)
    at, _ = await call(session, "changes_since", view="answers")
    _, is_error = await call(
        session, "remember", key="cafe", title="Café", text="The café of the library sells soup for nine euros."
    )
    assert not is_error
    assert str(await asyncio.wait_for(changed.get(), 120)) == uri
    told, _ = await call(session, "changes_since", view="answers", since=at["id"], wait_s=60)
    print("changed:", [of["text"] for of in told["changes"]])
    assert told["changes"] and not told["is_all"]
    read = await session.read_resource(uri)
    assert json.loads(read.contents[0].text)["kind"] == "answers"
    rows, is_error = await call(session, "sql_query", sql="SELECT count(*) AS n FROM notes")
    assert not is_error and rows["rows"][0]["n"] >= 1, rows
    refused, is_error = await call(session, "recall", question="soup")
    assert is_error and refused["hint"], refused
    print("refused:", refused["error"])
    forgotten, is_error = await call(session, "forget", key="cafe")
    assert not is_error and forgotten["receipt"]["remains"] == [], forgotten


async def speak(streams):
    changed = asyncio.Queue()

    async def hear(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            await changed.put(message.params.uri)

    async with streams as (read, write, *_):
        async with ClientSession(read, write, message_handler=hear) as session:
            await use(session, changed)


async def main():
    await speak(streamable_http_client(url))
    print("over HTTP: content")
    arguments = ["mcp", "--model", "smollm2-135m", "--state", state]
    # All of the environment: else only a few variables are passed on, and not where weights are kept.
    await speak(stdio_client(StdioServerParameters(command=program, args=arguments, env=dict(os.environ))))
    print("over standard input and output: content")


asyncio.run(main())
print("mcp", importlib.metadata.version("mcp"), "is content")
