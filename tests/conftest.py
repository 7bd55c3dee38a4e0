"""Fixtures that more than one test file uses."""

from pathlib import Path

import pytest

from tests.tiny import build_tiny_model
from tests.vllm_server import vllm_url

__all__ = ["vllm_url"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with its tokenizer; a file that needs another one has a fixture of its own."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), context=2048)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what takes longest first, so that no process is left with it alone at the end."""
    order = ("vllm", "ray", "integration")
    items.sort(key=lambda item: [not item.get_closest_marker(name) for name in order])
