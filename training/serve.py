"""Serving a trained student with vLLM: into a running server, or the command that starts one.

    python -m training.serve --model models/base --adapter runs/dpo --url http://127.0.0.1:8000

A server takes an adapter while it runs if it was started with ``--enable-lora``, a ``--max-lora-rank`` of at
least the adapter's, and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``. Whoever reaches such a server can load
weights into it: the commands written here bind it to 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shlex
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.types import Record
from training.config import ServeConfig
from training.flags import run_main
from training.folders import replace_text
from training.progress import Say, print_line
from training.sources import model_path

SERVE_FILE = "serve.sh"
ADAPTER_CONFIG = "adapter_config.json"
MAX_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's --max-lora-rank accepts
LOCALHOST = "http://127.0.0.1:8000"


class Served(Record):
    """How a student is served.

    Attributes:
        name: The model's name on the server.
        url: The server that was asked to load it; None where there was none.
        command: The shell command that starts a server with this student.
        loaded: Whether the running server answers under the name now.
    """

    name: str
    url: str | None
    command: str
    loaded: bool


class ServeArguments(ServeConfig):
    """Loads a student into a running vLLM server, or writes the command that starts one."""

    section: ClassVar[str] = "serve"

    model: str = Field(default="sandbox", description="base model: sandbox, or a Hugging Face path or folder")
    adapter: Path = Field(description="folder that training.sft or training.dpo wrote")


def serve_adapter(adapter: Path, model: str, config: ServeConfig, *, say: Say = print_line) -> Served:
    """Loads an adapter into the server at ``config.url``, in place of what had the name before.

    The command that starts such a server is written to ``serve.sh`` in the adapter's folder in any case.
    Without a URL that is all; so it is for a whole model, which no running server can load.

    Args:
        adapter: The folder of a LoRA adapter or of a whole model. The server reads it by its absolute path.
        model: The adapter's base, named as in training.
        config: Where, and under which name.
        say: Takes one line about the outcome.

    Raises:
        ModelError: There is no student in the folder, or the server is not there, does not take adapters or
            refuses this one.
        ConfigError: The URL is not one, or the folder cannot be written.
    """
    command = serve_command(adapter, model, config)
    _write(adapter / SERVE_FILE, f"#!/bin/sh\n{command}\n")
    found = Served(name=config.name, url=config.url, command=command, loaded=False)
    if config.url is None:
        say(f"serve: start the student with: {command}")
        return found
    if not _is_adapter(adapter):
        say(f"serve: a running server cannot load a whole model; restart it with: {command}")
        return found
    server = _Server(config, remedy=f"Start the server with: {command}")
    server.load(_by_content(adapter))
    say(f"serve: vllm:{config.name}@{server.url} answers with {adapter}")
    return found.model_copy(update={"loaded": True})


def serve_command(adapter: Path, model: str, config: ServeConfig) -> str:
    """The shell command of a vLLM server for a student: an adapter on its base, or a whole model.

    Raises:
        ModelError: There is no student in the folder, or its rank is higher than vLLM serves.
        ConfigError: The URL is not one.
    """
    place = ["--host", "127.0.0.1", "--port", str(_port(config.url or LOCALHOST))]
    path = adapter.resolve()
    if not _is_adapter(adapter):
        return shlex.join(["vllm", "serve", str(path), "--served-model-name", config.name, *place])
    base = model_path(model)
    base = str(Path(base).resolve()) if Path(base).is_dir() else base
    words = ["vllm", "serve", base, "--served-model-name", f"{config.name}-base", *place]
    words += ["--enable-lora", "--max-lora-rank", str(max_lora_rank(adapter))]
    words += ["--lora-modules", _lora_module(config.name, path)]
    return f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True {shlex.join(words)}"


def max_lora_rank(adapter: Path) -> int:
    """The smallest ``--max-lora-rank`` that serves an adapter.

    Raises:
        ModelError: The adapter's settings are unreadable, or no rank of vLLM's is high enough.
    """
    try:
        settings = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        rank = max([int(settings["r"]), *(settings.get("rank_pattern") or {}).values()])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"`{adapter / ADAPTER_CONFIG}` cannot be read ({error}). Pass the output of training.sft or dpo."
        ) from error
    for limit in MAX_LORA_RANKS:
        if rank <= limit:
            return limit
    raise ModelError(
        f"The adapter `{adapter}` has rank {rank}, and vLLM serves up to {MAX_LORA_RANKS[-1]}. "
        "Merge it into its base with training.export."
    )


class _Server:
    """A running vLLM server and its routes for adapters."""

    def __init__(self, config: ServeConfig, *, remedy: str) -> None:
        self.url = (config.url or LOCALHOST).rstrip("/").removesuffix("/v1")
        self._name, self._timeout, self._remedy = config.name, config.timeout, remedy

    def load(self, path: Path) -> None:
        """Makes the server answer under the name with the adapter at ``path``."""
        body = {"lora_name": self._name, "lora_path": str(path), "load_inplace": True}
        self._ask("/v1/load_lora_adapter", body)
        models = self._ask("/v1/models")
        try:
            served = {card["id"]: card.get("root") for card in json.loads(models)["data"]}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._error("lists no models, so it is not vLLM") from None
        if served.get(self._name) != str(path):
            raise self._error(f"took `{self._name}`, but lists {served}")

    def _ask(self, route: str, body: dict[str, Any] | None = None) -> str:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - `_port` has checked the scheme
            f"{self.url}{route}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as reply:  # noqa: S310
                return str(reply.read().decode(errors="replace"))
        except urllib.error.HTTPError as error:
            raise self._error(_reason(error)) from error
        except (OSError, http.client.HTTPException) as error:  # a URLError is an OSError
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                late = f"did not answer within `timeout={self._timeout:g}` seconds"
                raise ModelError(f"The server at {self.url} {late}. Check its load, or raise it.") from error
            raise self._error(f"does not answer ({reason})") from error

    def _error(self, what: str) -> ModelError:
        return ModelError(f"The server at {self.url} {what}. {self._remedy}")


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says; a route that is not there has no message of vLLM's own."""
    text = error.read().decode(errors="replace")
    try:
        message = str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        if error.code == 404:
            return "has no route /v1/load_lora_adapter: VLLM_ALLOW_RUNTIME_LORA_UPDATING is not set"
        message = text.strip() or str(error.reason)
    return f"refused the adapter ({error.code}: {message.splitlines()[0].rstrip('.')})"


def _by_content(adapter: Path) -> Path:
    """The adapter under a path that names its content: a link beside its folder.

    vLLM keeps the prefix cache by an adapter's name and path, so weights that changed under one path would be
    mixed with what the former ones had computed.
    """
    adapter = adapter.resolve()
    digest = hashlib.sha256()
    for file in sorted(adapter.glob("adapter_*")):
        digest.update(file.read_bytes())
    link = adapter.with_name(f".{adapter.name}-{digest.hexdigest()[:12]}")
    try:
        if not link.exists():
            link.symlink_to(adapter.name, target_is_directory=True)
    except OSError as error:
        raise ConfigError(f"`{link}` cannot be made ({error.strerror}). Make the folder writable.") from error
    return link


def _is_adapter(folder: Path) -> bool:
    if (folder / ADAPTER_CONFIG).is_file():
        return True
    if (folder / "config.json").is_file():
        return False
    raise ModelError(
        f"`{folder}` holds no {ADAPTER_CONFIG} and no config.json. Pass the output of training.sft or dpo."
    )


def _lora_module(name: str, path: Path) -> str:
    """The value of ``--lora-modules``: NAME=PATH, or JSON where vLLM would misread that."""
    plain = f"{name}={path}"
    return json.dumps({"name": name, "path": str(path)}) if "," in plain or "=" in name else plain


def _port(url: str) -> int:
    """The port of a server's URL, once that is known to be one."""
    try:
        address = urlsplit(url)
        if address.scheme in ("http", "https") and address.hostname:
            return address.port or {"http": 80, "https": 443}[address.scheme]
    except ValueError:
        pass
    raise ConfigError(f"`url={url}` is not a server. Write one such as {LOCALHOST}.")


def _write(path: Path, text: str) -> None:
    try:
        replace_text(path, text)
    except OSError as error:
        raise ConfigError(
            f"`{path}` cannot be written ({error.strerror}). Make the folder writable."
        ) from error


def main() -> int:
    def run(arguments: ServeArguments) -> Served:
        return serve_adapter(arguments.adapter, arguments.model, arguments)

    return run_main(ServeArguments, run, program="training.serve")


if __name__ == "__main__":
    sys.exit(main())
