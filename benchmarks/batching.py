"""How much faster the in-process student answers concurrent calls than the same calls one after another.

    python benchmarks/batching.py --problems 64

Prints one JSON object: tokens a second both ways, measured in the same run, and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from supercorrect_agent.models import load_chat_model
from supercorrect_agent.prompts import student_messages
from supercorrect_agent.sandbox import sandbox_prompts
from supercorrect_agent.sandbox.world import generate_problems


def tokens(replies: Sequence[BaseMessage]) -> int:
    """Tokens written in all replies."""
    return sum(reply.usage_metadata["output_tokens"] for reply in replies)  # type: ignore[attr-defined]


async def measure(problems: int) -> dict[str, Any]:
    """Asks every problem both ways; the first, uncounted call loads the model."""
    student = load_chat_model("sandbox", max_tokens=320)
    asked = [
        student_messages(sandbox_prompts(), problem.question)
        for problem in generate_problems("dev", problems, seed=1)
    ]
    await student.ainvoke(asked[0])
    started = time.perf_counter()
    alone = [await student.ainvoke(messages) for messages in asked]
    between = time.perf_counter()
    together = await student.abatch([list(messages) for messages in asked])
    ended = time.perf_counter()
    slow, fast = tokens(alone) / (between - started), tokens(together) / (ended - between)
    same = sum(a.content == b.content for a, b in zip(alone, together, strict=True))
    return {
        "problems": problems,
        "one_by_one_tokens_per_second": round(slow),
        "concurrent_tokens_per_second": round(fast),
        "ratio": round(fast / slow, 2),
        "same_text": same,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=64)
    print(json.dumps(asyncio.run(measure(parser.parse_args().problems)), indent=2))
