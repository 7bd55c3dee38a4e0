"""The child process in which math-verify runs: a JSON line [target, answer, seconds] in, a verdict line out.

It is started by path and imports nothing of this package, so that it is up in a second. A verdict is "equal",
"different", "target" (the target has no LaTeX reading) or "memory", and the seconds of CPU time it took. The
kernel ends the process when ``seconds`` of CPU time are used up: on a busy machine a wall clock would call
right answers wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable


def _limit(megabytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has none, some hosts set lower ones
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def _end_after(seconds: float) -> None:
    """Sets the CPU-time alarm, whose default action ends the process; 0 takes it back."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _grader() -> Callable[[str, str], str]:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    # units=False: by default a trailing t, m or s counts as a unit and vanishes, so that y=2t equals y=2
    cleaning = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    config = [LatexExtractionConfig(normalization_config=cleaning)]

    def read(text: str) -> list[object]:
        return parse(f"${text}$", config, fallback_mode="no_fallback", parsing_timeout=None)  # type: ignore[no-any-return]

    def grade(target: str, answer: str) -> str:
        gold = read(target)
        if not gold:
            return "target"
        prediction = read(answer)
        # float_rounding: 6 digits, the default, would call 1.414214 the root of 2
        equal = prediction and verify(gold, prediction, float_rounding=12, timeout_seconds=None)
        return "equal" if equal else "different"

    return grade


def main() -> None:
    """Answers pairs until standard input ends, which it does when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever libraries print goes elsewhere
    _limit(1024)
    grade = _grader()
    print("ready", file=replies, flush=True)
    for line in sys.stdin.buffer:
        target, answer, seconds = json.loads(line)
        started = time.process_time()
        _end_after(seconds)
        try:
            reply = grade(target, answer)
        except MemoryError:
            reply = "memory"
        except Exception:  # math-verify raises many kinds on odd input; none of them means "equal"
            reply = "different"
        _end_after(0)
        print(reply, time.process_time() - started, file=replies, flush=True)


if __name__ == "__main__":
    main()
