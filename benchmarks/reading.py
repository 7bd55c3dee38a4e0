"""Reading hostile text: seconds for four times the text, against the text itself. Linear is 4, quadratic 16.

    python benchmarks/reading.py

Prints one JSON object a pattern, the worst ratio last.
"""

from __future__ import annotations

import gc
import json
import time

from supercorrect_agent.templates import is_strict, parse_critique, parse_solution

HOSTILE = [
    "<", "<Step1>", "<Step1 ", "</Step1>", "<Key>", "<Key><Evaluate>", "<Step1><Cause>x</Cause>",
    "<Cause>", "<Correction>", "<Step1>a</Step1>", "\\boxed{", "{", "}", "\\", " ", "\n", " \n", "#",
    "*", "**<", "`", "-", "1,234", "</think>", "<think>", "1. a\n", "Step 1: a\n", "**Answer:** 1\n",
    "&lt;", "a<b ", "</", "<Step1:", "<Answer>\\boxed{", "/", "not ", "wrong ",
]  # fmt: skip


def seconds(text: str) -> float:
    """The fastest of three readings."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        parse_solution(text)
        parse_critique(text)
        is_strict(text)
        best = min(best, time.process_time() - started)
    return best


if __name__ == "__main__":
    gc.disable()
    worst = 0.0
    for shard in HOSTILE:
        text = shard * (20_000 // len(shard))
        ratio = seconds(text * 4) / seconds(text)
        worst = max(worst, ratio)
        print(json.dumps({"pattern": shard, "ratio": round(ratio, 2)}))
        gc.collect()
    print(json.dumps({"worst": round(worst, 2)}))
