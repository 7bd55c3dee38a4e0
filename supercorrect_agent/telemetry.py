"""Runs traced for OpenTelemetry, by OpenInference's instrumentor. Nothing is loaded unless it is asked for.

LangSmith needs nothing here: LangChain traces to it where its own environment variables say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from supercorrect_agent.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE = "supercorrect-agent"
HIDDEN = "***"
_KEY = re.compile(r"\bsk-[\w-]{8,}|(?<=\bBearer )[\w.~+/=-]{8,}")
_LEAST_SECRET = 8  # characters; what is shorter would be found in ordinary words


class Telemetry:
    """An instrumentation that is on until it is closed; made by ``enable_telemetry``."""

    def __init__(self, provider: Any, instrumentor: Any) -> None:
        self._provider, self._instrumentor = provider, instrumentor

    def close(self) -> None:
        """Sends what waits, and ends the instrumentation."""
        self._instrumentor.uninstrument()
        self._provider.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def enable_telemetry(
    endpoint: str | None = None, *, exporter: SpanExporter | None = None, secrets: Iterable[str] = ()
) -> Telemetry:
    """Traces every LangChain run of this process from now on: graphs, nodes, and model calls by role.

    A span of a model call says who asked in its metadata (``role``, ``round``) and as the tag ``role:...``.
    What of prompts and replies is in the spans is decided by OpenInference's own environment variables, such
    as ``OPENINFERENCE_HIDE_INPUTS``. API keys are taken out before anything is sent.

    Args:
        endpoint: Where spans are sent by OTLP over HTTP, such as ``http://127.0.0.1:4318/v1/traces``. There
            is no default, so that nothing leaves the machine by mistake.
        exporter: Takes the spans instead.
        secrets: Texts that must be in no span, beside what looks like a key.

    Raises:
        ConfigError: There is neither endpoint nor exporter, the packages are missing, or it is on already.
    """
    if exporter is None:
        exporter = _otlp(endpoint)
    try:
        from openinference.instrumentation.langchain import LangChainInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise _missing(error) from None
    instrumentor = LangChainInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        raise ConfigError("LangChain is instrumented already. Close that telemetry first, or leave it to it.")
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(_guarded(exporter, secrets)))
    instrumentor.instrument(tracer_provider=provider)
    return Telemetry(provider, instrumentor)


def _otlp(endpoint: str | None) -> SpanExporter:
    parts = urlsplit(endpoint or "")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"`endpoint={endpoint!r}` is no address to send spans to. Pass one, such as "
            "http://127.0.0.1:4318/v1/traces."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise _missing(error) from None
    return OTLPSpanExporter(endpoint=endpoint)


def _missing(error: ImportError) -> ConfigError:
    return ConfigError(
        f"Telemetry needs a package that is not installed ({error.name}). "
        "Install it: pip install 'supercorrect-agent[telemetry]'."
    )


def _guarded(exporter: SpanExporter, secrets: Iterable[str]) -> SpanExporter:
    """The exporter, which is given spans with role tags and without keys."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    hidden = [secret for secret in secrets if len(secret) >= _LEAST_SECRET]

    class Guarded(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return exporter.export([_cleaned(span, hidden) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Guarded()


def _cleaned(span: ReadableSpan, secrets: Sequence[str]) -> ReadableSpan:
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Status

    status = span.status
    if status.description:
        status = Status(status.status_code, _without(status.description, secrets))
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={**_clean_values(span.attributes, secrets), **_role_tag(span.attributes)},
        events=[
            Event(event.name, _clean_values(event.attributes, secrets), event.timestamp)
            for event in span.events
        ],
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _clean_values(attributes: Mapping[str, Any] | None, secrets: Sequence[str]) -> dict[str, Any]:
    return {key: _clean(value, secrets) for key, value in (attributes or {}).items()}


def _clean(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_clean(each, secrets) for each in value)
    return _without(value, secrets) if isinstance(value, str) else value


def _without(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _KEY.sub(HIDDEN, text)


def _role_tag(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whose call it is, as OpenInference's tag; its instrumentor leaves LangChain's tags out."""
    try:
        role = json.loads(str((attributes or {}).get("metadata") or "{}")).get("role")
    except ValueError:
        return {}
    return {"tag.tags": (f"role:{role}",)} if role else {}
