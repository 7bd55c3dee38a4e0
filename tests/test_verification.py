"""Grading: a hand-labelled table of answers, and what a grader in a service must survive."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.verification import MathVerifier, Verifier, extract_answer

CASES = json.loads((Path(__file__).parent / "data" / "answers.json").read_text(encoding="utf-8"))
# symbolic, so that only the grader process can look at it; minutes of work there
HOSTILE, HOSTILE_TARGET = "(x+1)^{20000}-(x-1)^{20000}", "(x+2)^{20000}"


class VerifierConformance:
    """What every verifier must do; subclass it and give a ``verifier`` fixture."""

    @pytest.mark.parametrize(
        ("answer", "target", "status"),
        [
            ("4", "4", "correct"),
            ("5", "4", "incorrect"),
            (None, "4", "unreadable"),
            ("4", None, "unscored"),
            (None, None, "unscored"),
        ],
    )
    def test_statuses(self, verifier: Verifier, answer: str | None, target: str | None, status: str) -> None:
        assert verifier.verify(answer=answer, target=target).status == status

    async def test_averify_agrees_with_verify(self, verifier: Verifier) -> None:
        for answer, target in (("4", "4"), ("5", "4"), (None, "4"), ("4", None)):
            assert await verifier.averify(answer=answer, target=target) == verifier.verify(
                answer=answer, target=target
            )

    def test_arguments_are_keyword_only(self, verifier: Verifier) -> None:
        with pytest.raises(TypeError):
            verifier.verify("4", "4")  # type: ignore[call-arg]

    @pytest.mark.parametrize("text", ["\0", "\ud800", "\\", "$", "{" * 3000, "(" * 3000, "1" * 1_000_000])
    def test_strange_text_never_raises(self, verifier: Verifier, text: str) -> None:
        assert not verifier.verify(answer=text, target="4").correct
        assert not verifier.verify(answer="4", target=text).correct


class TestMathVerifier(VerifierConformance):
    @pytest.fixture
    def verifier(self) -> Verifier:
        return MathVerifier()


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case['class']}: {case['target']} / {case['answer']}"[:80] for case in CASES]
)
def test_golden_table(case: dict[str, str | None]) -> None:
    verdict = MathVerifier().verify(answer=case["answer"], target=case["target"])
    assert verdict.status == case["status"], verdict.reason


def test_golden_table_is_large_and_has_every_status() -> None:
    assert len(CASES) >= 90
    assert {case["status"] for case in CASES} == {"correct", "incorrect", "unreadable", "unscored"}


def test_reading_an_answer_is_reflexive_across_the_table() -> None:
    readable = {case["target"] for case in CASES if case["status"] in ("correct", "incorrect")}
    assert [text for text in readable if not MathVerifier().verify(answer=text, target=text).correct] == []


def test_threads_grade_algebra() -> None:
    pairs = [("(x+1)^2", "x^2+2x+1"), ("x^3", "x^2"), (r"2\sqrt{2}", r"\sqrt{8}"), ("x+2", "x+3")] * 4
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda pair: MathVerifier().verify(answer=pair[0], target=pair[1]), pairs))
    assert [verdict.status for verdict in verdicts] == ["correct", "incorrect"] * 8


async def test_the_event_loop_is_not_blocked() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    ticker = asyncio.create_task(tick())
    verdict = await MathVerifier(seconds=1).averify(answer=HOSTILE, target=HOSTILE_TARGET)
    ticker.cancel()
    assert not verdict.correct
    assert ticks >= 5  # 50 in an idle second; 0 or 1 if grading held the loop


def test_a_hanging_comparison_is_killed_and_the_next_one_works() -> None:
    verifier = MathVerifier(seconds=1)
    verifier.verify(answer="x+1", target="x+2")  # the process is up
    start = time.monotonic()
    verdict = verifier.verify(answer=HOSTILE, target=HOSTILE_TARGET)
    assert time.monotonic() - start < 60  # a second, unless the machine is very busy
    assert verdict.status in ("incorrect", "unscored")
    assert verdict.reason in ("no result in 1.0 seconds", "the machine is too busy to grade this in time")
    assert MathVerifier().verify(answer="(x+1)^2", target="x^2+2x+1").correct


def test_a_megabyte_is_quick() -> None:
    start = time.monotonic()
    for text in ("9" * 10**6, "(" * 10**6, r"\boxed{" * 150_000, "<answer>" * 125_000, "a, " * 330_000):
        assert MathVerifier().verify(answer=text, target="9").status == "unreadable"
    assert MathVerifier().verify(answer="words " * 170_000 + r"\boxed{9}", target="9").correct
    assert time.monotonic() - start < 30


def test_numbers_start_no_process() -> None:
    code = (
        "from supercorrect_agent.verification import MathVerifier, process\n"
        "v = MathVerifier()\n"
        "assert v.verify(answer='1/2', target='0.5').correct\n"
        "assert not v.verify(answer='3', target='x=4').correct\n"
        "assert not process.running()\n"
        "assert v.verify(answer='(x+1)^2', target='x^2+2x+1').correct\n"
        "assert process.running()\n"
    )
    # read from standard input and without a main guard, as in a notebook or a quick script
    done = subprocess.run([sys.executable, "-"], input=code, text=True, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_seconds_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="`seconds=0`"):
        MathVerifier(seconds=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<Step1>1</Step1><Answer>\boxed{132}</Answer>", ("132", "answer_tag")),
        ("<answer> Tommy raises $221. </answer>", ("Tommy raises $221.", "answer_tag")),
        ("<Answer>1</Answer> no, wait <Answer>2", ("2", "answer_tag")),
        (r"<Answer></Answer> so \boxed{3}", ("3", "boxed")),
        (r"\boxed{1} and then \boxed{\frac{1}{2}}", (r"\frac{1}{2}", "boxed")),
        (r"\boxed{\{1,2\}}", (r"\{1,2\}", "boxed")),
        (r"\boxed{12", ("12", "boxed")),
        (r"\fbox{4} and \boxed 5.", ("5", "boxed")),
        ("She has 3 of 1,250 left, -7.5 in all", ("-7.5", "last_number")),
        ("That makes $1,250.", ("1,250", "last_number")),
        ("no number at all", (None, "none")),
        ("", (None, "none")),
    ],
)
def test_extract_answer(text: str, expected: tuple[str | None, str]) -> None:
    assert extract_answer(text) == expected
