"""Traces to rows, rows to a better student: each stage runs as ``python -m training.NAME --config FILE``."""

import logging
import os

# TRL reports its use to the hub unless it is told not to, and what it is told is read when it is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# PEFT imports bitsandbytes where it is installed, and that warns of a kernel that nothing here asks for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
