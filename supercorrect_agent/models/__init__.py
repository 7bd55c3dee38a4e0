"""Chat models by name: a student in this process, a vLLM server, OpenAI, or any other provider of LangChain.

Importing this loads no torch; ``local:`` models import it when they are made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from pydantic import ValidationError

from supercorrect_agent.errors import ConfigError, ModelError

SPEC_FORMS = "local:FOLDER, local:FOLDER+ADAPTER, sandbox, vllm:NAME@URL, openai:NAME or PROVIDER:NAME"
SANDBOX_STUDENT = Path(__file__).parent.parent / "sandbox" / "student"
# For a ChatOpenAI of your own whose server continues a partial assistant message as vLLM does.
PREFILL_METADATA = {"prefill": "vllm"}

__all__ = ["can_prefill", "continue_message_kwargs", "explain_model_error", "load_chat_model"]


def load_chat_model(spec: str | BaseChatModel, **kwargs: Any) -> BaseChatModel:
    """Makes the chat model that ``spec`` names; a chat model passes through as it is.

    Args:
        spec: ``"local:FOLDER"`` or ``"local:FOLDER+ADAPTER"`` (a LoRA adapter) runs in this process,
            and so does ``"sandbox"``, the packaged student. ``"vllm:NAME@URL"`` is a model behind an
            OpenAI-compatible server. ``"openai:NAME"`` and every other ``"PROVIDER:NAME"`` go to
            LangChain's ``init_chat_model``.
        **kwargs: Fields of the model, for instance ``temperature`` and ``max_tokens``.

    Raises:
        ModelError: The spec is unknown, or the model cannot be made; the message says what to do.
        ConfigError: A keyword is unknown to the model or out of range.
    """
    if isinstance(spec, BaseChatModel):
        return spec
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
    return model._llm_type == "supercorrect-local" or _is_vllm(model)


def continue_message_kwargs(model: BaseChatModel) -> dict[str, Any]:
    """Keywords of one call that make a model for which ``can_prefill`` holds continue the last message."""
    if _is_vllm(model):
        return {"extra_body": {"continue_final_message": True, "add_generation_prompt": False}}
    return {}


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
    from langchain_openai import ChatOpenAI

    model, at, url = name.rpartition("@")
    parts = urlsplit(url)
    if not (at and model and parts.scheme in ("http", "https") and parts.netloc):
        raise ModelError(
            f"'vllm:{name}' names no server. Write vllm:NAME@URL, for instance "
            "vllm:my-model@http://127.0.0.1:8000."
        )
    base = url.rstrip("/")
    settings = {
        "base_url": base if base.endswith("/v1") else f"{base}/v1",
        "api_key": "none",  # the client insists on a key, a server started without one ignores it
        "stream_usage": True,  # off by default for other servers than OpenAI's, which would count no tokens
        "max_retries": 1,
        # a connection that is kept belongs to its event loop, and fails in the next `asyncio.run`
        "default_headers": {"Connection": "close"},
    }
    metadata = {**PREFILL_METADATA, **kwargs.pop("metadata", {})}
    return ChatOpenAI(model=model, metadata=metadata, **{**settings, **kwargs})


def _load_from_provider(spec: str, provider: str, kwargs: dict[str, Any]) -> BaseChatModel:
    import openai
    from langchain.chat_models import init_chat_model

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


def _name_and_url(spec: str | BaseChatModel) -> tuple[str, str]:
    if isinstance(spec, BaseChatModel):
        name = getattr(spec, "model_name", None) or spec._llm_type
        return str(name), str(getattr(spec, "openai_api_base", None) or "its address")
    name = spec.partition(":")[2] or spec
    model, at, url = name.rpartition("@")
    return (model, url) if at else (name, "its provider's address")
