"""A chat model behind a server that speaks OpenAI's protocol, for very many calls at once."""

from __future__ import annotations

import json
from typing import Any

import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from supercorrect_agent.models.connections import httpx

# Of a request's fields, those that are no part of its body.
_AROUND_BODY = {"extra_headers": "headers", "extra_query": "params", "timeout": "timeout"}


class ServedChatModel(ChatOpenAI):
    """``ChatOpenAI``, whose ``ainvoke`` costs half the processor time.

    OpenAI's client walks through each request and each reply along its types, and LangChain reads the reply
    in another thread. A collection makes hundreds of calls a second beside a server on the same machine: here
    the body goes out as it is and the reply is read on the spot. Streams, calls without an event loop and
    replies that follow a schema in OpenAI's own way (``response_format=``) take the usual way.
    """

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        payload = self._get_request_payload(messages, stop=stop, **kwargs)
        if "messages" not in payload or "response_format" in payload or self.include_response_headers:
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        options = {option: payload.pop(field) for field, option in _AROUND_BODY.items() if field in payload}
        options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
        added = payload.pop("extra_body", None) or {}
        body = orjson.dumps({**payload, **added})
        reply = await self.root_async_client.post(
            "/chat/completions", content=body, options=options, cast_to=httpx.Response
        )
        return self._create_chat_result(_read(reply.content))


def _read(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # it refuses lone surrogates, which JSON can write
        return json.loads(body.decode("utf-8", "replace"))
