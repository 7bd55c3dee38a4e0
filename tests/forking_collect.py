"""A process that has imported the collection once and forks a run for each line of flags it is given.

The tests kill such runs by the dozen; each of them on its own would first import for seconds.
"""

from __future__ import annotations

import json
import os
import sys

import langchain_openai  # noqa: F401  (a run would import it)

from training.collect import main

if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)  # standard output is the test's
            os._exit(main(json.loads(line)))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
