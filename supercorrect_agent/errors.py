"""One exception per boundary, for misuse and broken surroundings. A bad *run* is data on its trace."""

from __future__ import annotations


class SuperCorrectError(Exception):
    """Base of every error this package raises on purpose; the command line prints it as one sentence."""


class ConfigError(SuperCorrectError, ValueError):
    """An argument, a flag or a configuration key is wrong. Names the key, the value and the remedy."""


class ModelError(SuperCorrectError):
    """A model cannot be loaded or reached: a missing folder or tokenizer, a server that is not there."""


class TeacherError(SuperCorrectError):
    """A teacher cannot judge this problem at all (as opposed to judging it wrongly)."""


class PromptError(SuperCorrectError, ValueError):
    """A prompt file is unreadable, or a placeholder is unknown or missing."""


class StoreError(SuperCorrectError):
    """A trace store cannot be read or written."""


class DataError(SuperCorrectError, ValueError):
    """A problem file or a dataset is unusable, or a training row would be truncated."""
