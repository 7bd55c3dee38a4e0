"""The benchmark of error localisation: its reading, its figures, and the solutions that it makes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks.localisation import f1, main, measure, read_labelled, share, solution_of, wilson
from benchmarks.made_errors import make_right, make_wrong, split_steps
from supercorrect_agent.errors import DataError
from supercorrect_agent.teachers import as_teacher

QUESTION = "A shop has 24 lamps in 4 rows and sells 2 lamps of each row. How many lamps are left?"
REFERENCE = (
    "It sells 4*2=<<4*2=8>>8 lamps.\nThere are 24-8=<<24-8=16>>16 lamps left, or 16/4=<<16/4=4>>4 a row.\n"
    "So 4*4=<<4*4=16>>16 lamps are left.\n#### 16"
)


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_the_interval_is_wilsons() -> None:
    """8 of 10: the middle is (0.8 + 0.1921) / 1.3841 = 0.7167, half its width 0.2266."""
    assert wilson(8, 10) == (0.4902, 0.9433)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


def test_f1_is_the_harmonic_mean() -> None:
    """One of two wrong ones and all right ones: 2 x 0.5 x 1 / 1.5."""
    assert f1([True, False], [True]) == 0.6667
    assert f1([False], [False]) == 0.0
    assert f1([], [True]) is None
    assert share([])["accuracy"] is None


def test_both_spellings_of_labelled_solutions_are_measured(tmp_path: Path) -> None:
    common: dict[str, object] = {"answer": "16", "reference_solution": REFERENCE}
    slip = ["It sells 4 x 2 = 8 lamps.", "So 24 - 8 = 15 lamps are left."]
    right = ["It sells 4 x 2 = 8 lamps.", "So 24 - 8 = 16 lamps are left."]
    path = write(
        tmp_path / "set.jsonl",
        {**common, "question": QUESTION, "steps": slip, "first_error_step": 1},
        {**common, "question": QUESTION, "steps": slip, "first_error_step": 0},
        {**common, "problem": QUESTION, "steps": right, "label": -1, "final_answer_correct": True},
    )
    found = measure(read_labelled(path), as_teacher("reference"))
    assert (found["wrong"]["n"], found["wrong"]["accuracy"]) == (2, 0.5)
    assert (found["right"]["n"], found["right"]["accuracy"]) == (1, 1.0)
    assert found["f1"] == 0.6667
    assert found["within_one"]["accuracy"] == 1.0


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    """U+2028 and U+0085 stand in JSON strings as they are."""
    path = tmp_path / "set.jsonl"
    row = {"question": "a\u2028b\x85c", "answer": "4", "steps": ["2 + 2 = 4"], "label": -1}
    path.write_text(
        json.dumps(row, ensure_ascii=False) + "\n\n" + json.dumps(row, ensure_ascii=False), "utf-8"
    )
    assert [one.problem.question for one in read_labelled(path)] == ["a\u2028b\x85c"] * 2


def test_latex_is_measured_too_and_needs_no_answer_beside_the_boxed_one(tmp_path: Path) -> None:
    common: dict[str, object] = {
        "problem": r"If $3x + 5 = 26$, what is $x^2$?",
        "solution": r"We subtract $5$ and get $3x = 21$, so $x = 7$. Then $x^2 = \boxed{49}$.",
    }
    wrong = [r"From $3x + 5 = 26$ we get $3x = 21$.", r"Thus $x = 21 - 3 = 18$.", r"So $x^2 = \boxed{324}$."]
    right = [
        r"From $3x + 5 = 26$ we get $3x = 21$.",
        r"Thus $x = 7$ and $x^2 = \boxed{49}$.",
        "It took 3 lines.",
    ]
    path = write(
        tmp_path / "math.jsonl",
        {**common, "steps": wrong, "label": 1},
        {**common, "steps": right, "label": -1},
    )
    found = measure(read_labelled(path), as_teacher("reference"))
    assert (found["wrong"]["n"], found["wrong"]["accuracy"]) == (1, 1.0)
    assert (found["right"]["n"], found["right"]["accuracy"]) == (1, 1.0)


@pytest.mark.parametrize("row", [{"question": "?"}, {"problem": "?", "steps": ["a"], "label": 1}])
def test_a_broken_line_is_named(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(DataError, match="line 1"):
        list(read_labelled(write(tmp_path / "bad.jsonl", row)))


def test_a_solution_has_the_steps_that_it_was_given() -> None:
    solution = solution_of(["One is 1.", "Two is 2.\n\nSo 3."])
    assert [step.text for step in solution.steps] == ["One is 1.", "Two is 2.\n\nSo 3."]
    assert solution.answer == "3."[:1]
    assert solution.prefix(2) == "One is 1.\n\n"
    assert solution_of([]).answer is None


def test_made_solutions_are_right_up_to_their_label() -> None:
    kinds = set()
    for seed in range(60):
        made = make_wrong(QUESTION, REFERENCE, "16", random.Random(seed))
        if made is None:
            continue
        kinds.add(made.kind)
        right = make_right(REFERENCE, "16", random.Random(seed))
        assert right is not None
        assert right.first_error_step == -1
        assert 0 <= made.first_error_step < len(made.steps)
        before = " ".join(made.steps[: made.first_error_step])
        assert " ".join(REFERENCE.split("\n")[0].replace("<<4*2=8>>", "").split()).startswith(before[:10])
    assert {"slip", "operation", "repeated", "answer", "beyond"} <= kinds


def test_the_report_is_json_and_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = write(
        tmp_path / "problems.jsonl", {"question": QUESTION, "answer": "16", "solution": REFERENCE}
    )
    output = tmp_path / "found.json"
    main(["--problems", str(problems), "--output", str(output)])
    found = json.loads(output.read_text())["made from problems"]
    assert found["right"]["accuracy"] == 1.0
    assert "right solutions" in capsys.readouterr().out


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(SystemExit):
        main([])


def test_a_made_solution_boxes_no_answer_but_its_own() -> None:
    reference = "There are $24 - 8 = 16$ lamps,\nso the answer is $\\boxed{16}$."
    assert split_steps(reference) == ["There are $24 - 8 = 16$ lamps,", "so the answer is $16$."]
