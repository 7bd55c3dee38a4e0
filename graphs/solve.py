"""Studio entry point: the solving graph. It takes a problem; there is no place for a reference answer.

The roles come from the environment: SUPERCORRECT_STUDENT and SUPERCORRECT_TEACHER, each as for
``load_chat_model`` (default: the packaged sandbox). With an empty SUPERCORRECT_TEACHER the student reviews
itself.
"""

import os

from supercorrect_agent import create_supercorrect_graph

graph = create_supercorrect_graph(
    os.environ.get("SUPERCORRECT_STUDENT", "sandbox"),
    os.environ.get("SUPERCORRECT_TEACHER", "sandbox") or None,
)
