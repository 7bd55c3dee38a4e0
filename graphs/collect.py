"""Studio entry point: the collecting graph, whose teacher sees the reference. It takes a Problem record.

The roles come from the environment: SUPERCORRECT_STUDENT and SUPERCORRECT_TEACHER (default: the packaged
sandbox), and SUPERCORRECT_INSPECTOR, a model that inspects the teacher's work (default: the rules alone).
"""

import os

from supercorrect_agent import create_collecting_graph

graph = create_collecting_graph(
    os.environ.get("SUPERCORRECT_STUDENT", "sandbox"),
    os.environ.get("SUPERCORRECT_TEACHER") or "sandbox",
    inspector=os.environ.get("SUPERCORRECT_INSPECTOR") or "rules",
)
