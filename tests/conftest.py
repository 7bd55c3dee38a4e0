"""Fixtures that more than one test file uses."""

from tests.vllm_server import vllm_url

__all__ = ["vllm_url"]
