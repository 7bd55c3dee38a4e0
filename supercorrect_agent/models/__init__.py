"""Chat models by name: a student in this process, a vLLM server, OpenAI, or any other provider of LangChain.

Importing this loads no torch; ``local:`` models import it when they are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from pydantic import ValidationError

from supercorrect_agent.errors import ConfigError, ModelError, SuperCorrectError

SPEC_FORMS = "local:FOLDER, local:FOLDER+ADAPTER, sandbox, vllm:NAME@URL, openai:NAME or PROVIDER:NAME"
LOCAL_TYPE = "supercorrect-local"  # what a model in this process calls itself
SANDBOX_STUDENT = Path(__file__).parent.parent / "sandbox" / "student"
# For a ChatOpenAI of your own whose server continues a partial assistant message as vLLM does.
PREFILL_METADATA = {"prefill": "vllm"}

_BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# By name, so that asking about an error imports neither library.
_TRANSIENT = {
    "openai.APIConnectionError",
    "openai.RateLimitError",
    "openai.InternalServerError",
    "httpx.TransportError",
    "httpx2.TransportError",  # the transport of openai 3
}

__all__ = [
    "UnusableReply",
    "can_prefill",
    "continue_message_kwargs",
    "counts_nothing",
    "cut_reply",
    "explain_model_error",
    "http_status",
    "is_transient",
    "load_chat_model",
    "retries_itself",
    "schema_kwargs",
    "timeout_kwargs",
    "unusable_reply",
]


class UnusableReply(ModelError):
    """A server answered a call with something that is no reply of a chat model: nothing, or a web page."""


def load_chat_model(spec: str | BaseChatModel, **kwargs: Any) -> BaseChatModel:
    """Makes the chat model that ``spec`` names; a chat model passes through.

    A model behind ``vllm:`` or ``openai:`` gets ``max_retries=0``, for the graphs try a failed call again
    themselves (``CorrectionConfig.retries``). Pass ``max_retries``, and they leave it to the model.

    Args:
        spec: ``"local:FOLDER"`` or ``"local:FOLDER+ADAPTER"`` (a LoRA adapter) runs in this process,
            and so does ``"sandbox"``, the packaged student. ``"vllm:NAME@URL"`` is a model behind an
            OpenAI-compatible server, ``"vllm:NAME@URL,URL"`` behind several that share the calls.
            ``"openai:NAME"`` and every other ``"PROVIDER:NAME"`` go to LangChain's ``init_chat_model``.
        **kwargs: Fields of the model, for instance ``temperature`` and ``max_tokens``.

    Raises:
        ModelError: The spec is unknown, or the model cannot be made; the message says what to do.
        ConfigError: ``spec`` is neither, or a keyword is unknown to the model or out of range.
    """
    if isinstance(spec, BaseChatModel):
        return _counting(spec)
    if not isinstance(spec, str):
        raise ConfigError(f"`spec` is a {type(spec).__name__}. Pass a chat model, or a text: {SPEC_FORMS}.")
    provider, _, name = spec.strip().partition(":")
    try:
        if provider == "sandbox":
            return _load_sandbox(name, kwargs)
        if not name:
            raise ModelError(f"'{spec}' names no chat model. Write one of: {SPEC_FORMS}.")
        if provider == "local":
            return _load_local(name, kwargs)
        if provider == "vllm":
            return _load_vllm(name, kwargs)
        return _load_from_provider(spec.strip(), provider, kwargs)
    except ValidationError as error:
        raise _as_config_error(error, spec) from None  # the original may print an API key


def can_prefill(model: BaseChatModel) -> bool:
    """Whether the model continues a last, partial assistant message instead of answering it."""
    return model._llm_type == LOCAL_TYPE or _is_vllm(model)


def continue_message_kwargs(model: BaseChatModel) -> dict[str, Any]:
    """Keywords of one call that make a model for which ``can_prefill`` holds continue the last message."""
    return (
        _in_body(model, continue_final_message=True, add_generation_prompt=False) if _is_vllm(model) else {}
    )


def schema_kwargs(model: BaseChatModel, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of one call that hold a model to a JSON schema; {} if it is not known to take one.

    The model's profile decides (``structured_output``, which LangChain knows of most models by their names).
    Where that says nothing, a vLLM server takes one and nobody else: others might refuse the whole request.
    A model that is to be treated otherwise is made with ``profile={"structured_output": ...}``.

    Args:
        model: The chat model.
        name: What the schema is called.
        schema: The schema, in the subset that OpenAI takes: every key required, and no others.
    """
    known = (model.profile or {}).get("structured_output")
    if not (_is_vllm(model) if known is None else known):
        return {}
    wanted = {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
    if _is_vllm(model):  # past the client's own parsing, see `cut_reply`
        return _in_body(model, response_format=wanted)
    return {"response_format": wanted}  # so LangChain's agents ask a model of any provider for it


def cut_reply(error: Exception) -> AIMessage:
    """The reply that ran into its token limit, which OpenAI's client withholds if it was to follow a schema.

    Raises:
        Exception: ``error`` itself, if it is any other.
    """
    if "openai.LengthFinishReasonError" not in _kinds(error):
        raise error
    completion = error.completion  # type: ignore[attr-defined]
    usage, counted = completion.usage, None
    if usage is not None:
        taken, written = usage.prompt_tokens, usage.completion_tokens
        counted = UsageMetadata(input_tokens=taken, output_tokens=written, total_tokens=taken + written)
    text = completion.choices[0].message.content or ""
    return AIMessage(text, usage_metadata=counted, response_metadata={"finish_reason": "length"})


def timeout_kwargs(model: BaseChatModel, seconds: float) -> dict[str, Any]:
    """Keywords of one call that make the model's client give up after ``seconds``; {} if it takes none."""
    return {"timeout": seconds} if "langchain_openai" in _origins(type(model)) else {}


def retries_itself(model: BaseChatModel) -> bool:
    """Whether the model's client tries a failed call again; ``max_retries=None`` is the client's default."""
    return getattr(model, "max_retries", 0) != 0


def is_transient(error: BaseException) -> bool:
    """Whether a call may succeed a moment later: the connection, the load or the server was at fault."""
    if isinstance(error, ConnectionError | TimeoutError) or http_status(error) in _BUSY:
        return True
    return not _kinds(error).isdisjoint(_TRANSIENT)


def unusable_reply(error: Exception, model: BaseChatModel) -> Exception:
    """What a failed call of an OpenAI-compatible server means where its client stumbled over the reply.

    The client reads an empty body, another document or a completion without choices as if it were one, and
    fails in its own code. Any other error comes back as it is.
    """
    stumbled = isinstance(error, ValueError | TypeError | LookupError | AttributeError)
    served = "langchain_openai" in _origins(type(model))
    if not (stumbled and served) or isinstance(error, SuperCorrectError):
        return error
    name, url = _name_and_url(model)
    reason = (str(error).strip() or "no reason given").splitlines()[0][:200]
    return UnusableReply(
        f"The server at {url} answered for '{name}' with something that is no chat completion "
        f"({type(error).__name__}: {reason}). Look at what stands between, such as a proxy."
    )


def http_status(error: BaseException) -> int | None:
    """The status a server refused a call with, as the clients of most providers say it."""
    found = getattr(error, "status_code", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    return found if isinstance(found, int) else None


def explain_model_error(error: BaseException, spec: str | BaseChatModel) -> ModelError:
    """One sentence about a failed model call: what happened, where, and what to do.

    Args:
        error: What the call raised.
        spec: The model that was called, as given to ``load_chat_model``.
    """
    import openai

    if isinstance(error, ModelError):
        return error
    name, url = _name_and_url(spec)
    if isinstance(error, openai.APITimeoutError):
        return ModelError(f"The server at {url} did not answer in time. Check its load, or raise `timeout`.")
    if isinstance(error, openai.APIConnectionError):
        return ModelError(
            f"No model server answers at {url}. Start one, for instance with `vllm serve {name}`, "
            "or correct the URL."
        )
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ModelError(
            f"The server at {url} refused the API key for '{name}'. Set OPENAI_API_KEY, or pass `api_key`."
        )
    if isinstance(error, openai.NotFoundError):
        return ModelError(f"The server at {url} has no model '{name}'. Ask for one that {url}/models lists.")
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    return ModelError(f"The model '{name}' failed ({type(error).__name__}): {reason}")


def _counting(model: BaseChatModel) -> BaseChatModel:
    """The model, which asks a vLLM server to count streamed tokens; LangChain asks OpenAI alone by itself."""
    if _is_vllm(model) and getattr(model, "stream_usage", False) is None:
        return model.model_copy(update={"stream_usage": True})
    return model


def counts_nothing(model: BaseChatModel) -> bool:
    """Whether the replies of a model that streams come without a count of their tokens."""
    return "langchain_openai" in _origins(type(model)) and not getattr(model, "stream_usage", True)


def _load_sandbox(name: str, kwargs: dict[str, Any]) -> BaseChatModel:
    if name not in ("", "student"):
        raise ModelError(f"'sandbox:{name}' names no chat model. The sandbox has one: write 'sandbox'.")
    if not SANDBOX_STUDENT.is_dir():
        raise ModelError(
            f"The sandbox student is not in '{SANDBOX_STUDENT}'. Install the package again, "
            "or train it with `python -m training.pretrain_sandbox`."
        )
    return _load_local(str(SANDBOX_STUDENT), kwargs)


def _load_local(name: str, kwargs: dict[str, Any]) -> BaseChatModel:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "A local model needs torch and transformers. "
            "Install them: pip install 'supercorrect-agent[local]'."
        ) from error
    from supercorrect_agent.models.local import LocalChatModel

    folder, plus, adapter = name.rpartition("+")
    if not plus or Path(name).is_dir():
        return LocalChatModel(model_path=Path(name), **kwargs)
    return LocalChatModel(model_path=Path(folder), adapter_path=Path(adapter), **kwargs)


def _load_vllm(name: str, kwargs: dict[str, Any]) -> BaseChatModel:
    from supercorrect_agent.models.connections import http_clients
    from supercorrect_agent.models.served import ServedChatModel
    from supercorrect_agent.models.spread import SpreadChatModel

    model, at, listed = name.rpartition("@")
    urls = [url.strip() for url in listed.split(",")]
    parts = [urlsplit(url) for url in urls]
    if not (at and model and all(each.scheme in ("http", "https") and each.netloc for each in parts)):
        raise ModelError(
            f"'vllm:{name}' names no server. Write vllm:NAME@URL, for instance "
            "vllm:my-model@http://127.0.0.1:8000, or several with a comma between their URLs."
        )
    settings: dict[str, Any] = {
        "api_key": "none",  # the client insists on a key, a server started without one ignores it
        "stream_usage": True,  # off by default for other servers than OpenAI's, which would count no tokens
        "max_retries": 0,
        "metadata": {**PREFILL_METADATA, **kwargs.pop("metadata", {})},
    }
    if not kwargs.keys() & {"http_client", "http_async_client", "openai_proxy"}:
        settings |= http_clients()
    settings |= kwargs
    bases = [url.rstrip("/").removesuffix("/v1") + "/v1" for url in urls]
    servers = [ServedChatModel(model=model, **{"base_url": base, **settings}) for base in bases]
    if len(servers) == 1:
        return servers[0]
    return SpreadChatModel(model=model, servers=servers, **{"base_url": bases[0], **settings})


def _load_from_provider(spec: str, provider: str, kwargs: dict[str, Any]) -> BaseChatModel:
    import openai
    from langchain.chat_models import init_chat_model

    if provider == "openai":  # streamed tokens are counted at any address, as for vLLM
        kwargs = {"max_retries": 0, "stream_usage": True, **kwargs}
    try:
        model: BaseChatModel = init_chat_model(spec, **kwargs)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"'{spec}' needs a package that is not installed: {reason}") from error
    except openai.OpenAIError as error:
        raise ModelError(f"'{spec}' needs an API key. Set OPENAI_API_KEY, or pass `api_key`.") from error
    except ValidationError:
        raise
    except ValueError as error:
        raise ModelError(
            f"'{spec}' names no chat model: provider '{provider}' is unknown. Write {SPEC_FORMS}."
        ) from error
    return model


def _as_config_error(error: ValidationError, spec: str) -> ConfigError:
    first = error.errors()[0]
    key, value = ".".join(str(part) for part in first["loc"]), first["input"]
    shown = f"={value!r}" if isinstance(value, int | float | str) and "key" not in key else ""
    return ConfigError(f"`{key}{shown}` does not suit '{spec}': {first['msg']}. Correct it or leave it out.")


def _is_vllm(model: BaseChatModel) -> bool:
    return PREFILL_METADATA.items() <= (model.metadata or {}).items()


def _in_body(model: BaseChatModel, **fields: Any) -> dict[str, Any]:
    """The keyword that adds fields to the body of one request, beside those of the model's own."""
    return {"extra_body": {**(getattr(model, "extra_body", None) or {}), **fields}}


def _kinds(error: BaseException) -> set[str]:
    """The classes of an error, each as the package it is from and its name."""
    return {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}


def _origins(kind: type) -> set[str]:
    return {base.__module__.partition(".")[0] for base in kind.__mro__}


def _name_and_url(spec: str | BaseChatModel) -> tuple[str, str]:
    if isinstance(spec, BaseChatModel):
        name = getattr(spec, "model_name", None) or spec._llm_type
        return str(name), str(getattr(spec, "openai_api_base", None) or "its address")
    name = spec.partition(":")[2] or spec
    model, at, url = name.rpartition("@")
    return (model, url) if at else (name, "its provider's address")
