"""Traces to rows, rows to a better student: each stage runs as ``python -m training.NAME --config FILE``."""

import logging

# PEFT imports bitsandbytes where it is installed, and that warns of a kernel that nothing here asks for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
