"""Telemetry of a stage: the environment variables of OpenTelemetry, and which secrets must not be sent."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from supercorrect_agent.errors import ConfigError

Choice = Literal["otel"] | None
_SECRET_NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")


def telemetry(choice: Choice) -> AbstractContextManager[Any]:
    """Traces the runs inside the block where ``choice`` is ``otel``; else does and loads nothing.

    Raises:
        ConfigError: No endpoint is set, or a package is missing.
    """
    if choice is None:
        return nullcontext()
    from supercorrect_agent.telemetry import enable_telemetry

    secrets = [value for name, value in os.environ.items() if name.endswith(_SECRET_NAMES)]
    return enable_telemetry(otlp_endpoint(), secrets=secrets)


def otlp_endpoint() -> str:
    """Where spans go, by OpenTelemetry's own variables.

    Raises:
        ConfigError: Neither of them is set.
    """
    whole = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not (whole or base):
        raise ConfigError(
            "`telemetry=otel` has nowhere to send spans to. Set OTEL_EXPORTER_OTLP_ENDPOINT, for instance to "
            "http://127.0.0.1:4318, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT."
        )
    return whole or f"{(base or '').rstrip('/')}/v1/traces"
