"""Synthetic traces that are true to the schema and of the size that collections of GSM8K have.

Four attempts at each problem. The mix: 55 % right at once; 35 % wrong, criticised and corrected (some with a
critique that was sent back); 5 % that stay wrong; 3 % quarantined; 2 % failed. The first attempt at a problem
carries the teacher's own solution.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from supercorrect_agent.types import SCHEMA_VERSION, content_id

Json = dict[str, Any]
SAMPLES = 4

_NAMES = ("Amira", "Bolaji", "Chen", "Dilara", "Emeka", "Fatima", "Goran", "Hana", "Ilse", "Juma")
_THINGS = ("crates of apples", "boxes of pencils", "bags of rice", "rows of chairs", "jars of honey")
_PLACES = ("at the market", "in the warehouse", "behind the school", "on the ferry", "in the orchard")
_CAUSES = (
    "The digits were added without carrying the one, so the sum comes out too low by ten.",
    "The price was taken for the number of pieces, although the question gives both of them.",
    "The step subtracts what should have been added, because the word 'more' was overlooked.",
)
_ADD = "To what there was, add what came on day"
_CHECKS = (
    "readable", "step_in_range", "cause", "correction", "leak", "arithmetic", "agrees_with_answer",
)  # fmt: skip


def make_records(count: int, *, start: int = 0, seed: int = 0) -> Iterator[Json]:
    """Records of traces, as `Trace.model_dump` gives them; record n is the same whatever is asked for.

    Args:
        count: How many.
        start: Number of the first.
        seed: Seed of all of them.
    """
    for number in range(start, start + count):
        yield _record(number, seed)


def _record(number: int, seed: int) -> Json:
    problem, sample = divmod(number, SAMPLES)
    dice = random.Random(f"{seed} {problem}")
    facts = [dice.randint(11, 989) for _ in range(dice.randint(4, 7))]
    question = _question(problem, facts, dice)
    answer = str(sum(facts))
    dice = random.Random(f"{seed} {problem} {sample}")
    lot = dice.random()
    wrong = dice.randint(2, len(facts) - 1) if lot >= 0.55 else None
    made = {
        "schema_version": SCHEMA_VERSION,
        "id": f"{dice.getrandbits(64):016x}",
        "problem": {
            "id": content_id(question), "question": question, "answer": answer,
            "reference_solution": _prose(facts), "source": "synthetic", "split": "train",
        },
        "template": _solution(facts, None, 0, "teacher-32b") if sample == 0 else None,
        "template_inspections": [], "template_revisions": [],
        "solution": _solution(facts, wrong, dice.randint(1, 9), "student-7b"),
        "verdict": {"status": "correct" if wrong is None else "incorrect", "reason": ""},
        "rounds": [], "chosen": {"index": 0, "reason": "the answer is the true one"},
        "status": "accepted", "calls": [_call("student", dice, 0)], "error": None, "sample": sample,
        "votes": [], "agreement": None, "created": f"2026-11-30T12:{number % 60:02d}:00.000000+00:00",
        "versions": {"supercorrect-agent": "0.1.0", "prompts": "1f2e3d4c", "langgraph": "1.2.22"},
    }  # fmt: skip
    if lot >= 0.98:
        made |= {"solution": None, "verdict": None, "template": None, "status": "error", "rounds": []}
        made["error"] = "student: APIConnectionError: Connection error."
    elif wrong is not None:
        made |= _round(facts, wrong, made["solution"], lot, dice)
        made["calls"] += [_call("teacher", dice, 1), _call("student", dice, 1), _call("student", dice, 1)]
    return made


def _round(facts: list[int], wrong: int, solution: Json, lot: float, dice: random.Random) -> Json:
    """What the teacher and the student made of a wrong attempt."""
    sums = [sum(facts[:step]) for step in range(1, len(facts) + 1)]
    status = "corrected" if lot < 0.9 else "unchanged" if lot < 0.95 else "quarantined"
    line = _line(facts, sums, wrong)
    text = solution["raw"]
    judged = "".join(
        text[step["start"] : step["end"]].replace(f"</Step{step['index']}>", "")
        + f"<Evaluate>This step is correct.</Evaluate></Step{step['index']}>\n"
        for step in solution["steps"][: wrong - 1]
    )
    own = solution["steps"][wrong - 1]
    prefix = judged + text[own["start"] : own["end"]].replace(f"</Step{wrong}>", "")
    prefix += "<Evaluate>This step is wrong.</Evaluate>"
    critique = _critique(wrong, dice.choice(_CAUSES), line, "teacher-32b", prefix)
    review = _critique(
        wrong,
        dice.choice(_CAUSES),
        line.replace(f"={sums[wrong - 1]}", f"={sums[wrong - 1] + 7}"),
        "student-7b",
        prefix,
    )
    checks = [{"check": name, "passed": True, "note": ""} for name in _CHECKS]
    if status == "quarantined":
        checks[4] = {"check": "leak", "passed": False, "note": "The correction speaks of the reference."}
    back = dice.random() < 0.1
    failed = {"check": "correction", "passed": False, "note": "The correction repeats the step."}
    return {
        "status": status, "chosen": {"index": int(status == "corrected"), "reason": "verified"},
        "rounds": [{
            "critique": critique,
            "revisions": [{"critique": critique, "inspections": [failed]}] if back else [],
            "review": review,
            "free_review": {**review, "step": dice.choice((wrong, wrong, 1, None))},
            "solution": _solution(facts, None, 0, "student-7b") if status != "quarantined" else None,
            "verdict": {"status": "correct" if status == "corrected" else "incorrect", "reason": ""}
            if status != "quarantined" else None,
            "inspections": checks, "alternatives": [], "continuation": "prefill",
        }],
    }  # fmt: skip


def _question(problem: int, facts: list[int], dice: random.Random) -> str:
    name, thing, place = dice.choice(_NAMES), dice.choice(_THINGS), dice.choice(_PLACES)
    days = "".join(f" On day {day} {name} receives {more} more." for day, more in enumerate(facts[1:], 2))
    return (
        f"{name} counts {facts[0]} {thing} {place} on the first day of delivery {problem}.{days} "
        f"Nothing is sold in the meantime. How many {thing} does {name} have in the end?"
    )


def _prose(facts: list[int]) -> str:
    sums = [sum(facts[:step]) for step in range(1, len(facts) + 1)]
    return "\n".join(_line(facts, sums, step) for step in range(2, len(facts) + 1))


def _line(facts: list[int], sums: list[int], step: int) -> str:
    if step == 1:
        return f"We begin with what was there on the first day, which is {facts[0]}."
    return (
        f"To what there was, add what came on day {step}: {sums[step - 2]}+{facts[step - 1]}={sums[step - 1]}"
    )


def _solution(facts: list[int], wrong: int | None, shift: int, model: str) -> Json:
    """A solution in the template, whose step ``wrong`` and all behind it are too high by ``shift``."""
    said = [
        sum(facts[:step]) + (shift if wrong and step >= wrong else 0) for step in range(1, len(facts) + 1)
    ]
    steps, raw = [], ""
    for step in range(1, len(facts) + 1):
        before = said[step - 2] if step > 1 else 0
        text = (
            _line(facts, said, 1)
            if step == 1
            else f"{_ADD} {step}: {before}+{facts[step - 1]}={said[step - 1]}"
        )
        key = "A delivery adds to what is there." if step in (2, wrong) else None
        whole = f"<Step{step}>{text}{f'<Key>{key}</Key>' if key else ''}</Step{step}>"
        steps.append(
            {"index": step, "text": text, "key": key, "start": len(raw), "end": len(raw) + len(whole)}
        )
        raw += whole + "\n"
    general = "Add up what comes in, one delivery after the other, and name the last sum."
    raw += f"<Generalized>{general}</Generalized>\n<Answer>\\boxed{{{said[-1]}}}</Answer>"
    return {"steps": steps, "generalized": general, "answer": str(said[-1]), "raw": raw, "model": model}


def _critique(step: int, cause: str, correction: str, author: str, prefix: str) -> Json:
    raw = f"{prefix}<Cause>{cause}</Cause><Correction>{correction}</Correction>"
    return {
        "step": step, "cause": cause, "correction": correction, "author": author, "raw": raw, "answer": None,
        "confidence": None, "cause_step": None, "correction_step": None, "readable": True,
    }  # fmt: skip


def _call(role: str, dice: random.Random, round_: int) -> Json:
    return {
        "role": role, "model": f"{role}-7b", "prompt": f"{role}@3",
        "sampling": {"temperature": 0.7, "max_tokens": 1024, "stop": ["</Answer>"]},
        "input_tokens": dice.randint(200, 900), "output_tokens": dice.randint(80, 500),
        "seconds": round(dice.uniform(0.4, 9.0), 4), "round": round_,
    }  # fmt: skip
