"""The tolerant reader and the strict writer of solutions and correction traces."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supercorrect_agent.errors import DataError
from supercorrect_agent.grammar import read_tags, without_boxes
from supercorrect_agent.templates import (
    critique_prefix,
    extract_answer,
    format_critique,
    format_solution,
    is_strict,
    parse_critique,
    parse_solution,
    splice_correction,
)
from supercorrect_agent.types import Critique, Solution, Step

DATA = Path(__file__).parent / "data"
SOLUTIONS = json.loads((DATA / "malformed_solutions.json").read_text(encoding="utf-8"))
CRITIQUES = json.loads((DATA / "malformed_critiques.json").read_text(encoding="utf-8"))

STRICT = (
    "<Step1>Grows by 85, so add. <Key>7+5=12, 4+8+1=13</Key> 47+85=132</Step1>\n"
    "<Step2>Three times: 132*3=386</Step2>\n"
    "<Generalized>Follow the story.</Generalized>\n"
    "<Answer>\\boxed{386}</Answer>"
)
WRONG = Critique(step=2, cause="132*3 was multiplied wrongly.", correction="Three times: 132*3=396")
TRACE = (
    "<Step1>47+85=132<Evaluate>ok</Evaluate></Step1>\n"
    "<Step2>132*3=386<Evaluate>wrong</Evaluate><Cause>why</Cause><Correction>132*3=396</Correction></Step2>"
)


@pytest.mark.parametrize("case", SOLUTIONS, ids=lambda case: case["name"])
def test_malformed_solution(case):
    solution = parse_solution(case["text"], model="m")
    assert [{"text": s.text, "key": s.key} for s in solution.steps] == case["steps"]
    assert (solution.generalized, solution.answer) == (case["generalized"], case["answer"])
    assert extract_answer(case["text"]) == (case["answer"], case["where"])
    assert (solution.raw, solution.model) == (case["text"], "m")
    assert [s.index for s in solution.steps] == list(range(1, len(solution.steps) + 1))
    for step, prefix in case.get("prefix", {}).items():
        assert solution.prefix(int(step)) == prefix


@pytest.mark.parametrize("case", CRITIQUES, ids=lambda case: case["name"])
def test_malformed_critique(case):
    critique = parse_critique(case["text"], author="a")
    expected = {key: value for key, value in case.items() if key not in ("name", "text")}
    assert critique.model_dump(include=set(expected)) == expected
    assert (critique.raw, critique.author) == (case["text"], "a")


def test_the_golden_tables_are_as_large_as_promised():
    assert len(SOLUTIONS) >= 30
    assert len(CRITIQUES) >= 15
    for table in (SOLUTIONS, CRITIQUES):
        assert len({case["name"] for case in table}) == len(table)


def test_offsets_cut_whole_elements():
    first, second = parse_solution(STRICT).steps
    assert STRICT[first.start : first.end] == STRICT.split("\n")[0]
    assert STRICT[second.start : second.end] == "<Step2>Three times: 132*3=386</Step2>"
    (doubled,) = parse_solution("<Step1>a<Step1>\n<Answer>1</Answer>").steps
    assert (doubled.start, doubled.end) == (0, len("<Step1>a<Step1>"))


def test_correct_and_incorrect_spellings_of_the_strict_form():
    assert is_strict(STRICT)
    assert is_strict("<Step1>a</Step1><Answer>1</Answer>\n")
    assert is_strict("<Step1><Key>a</Key></Step1><Answer>1</Answer>")
    assert is_strict("<Step1>$a<b$ & more</Step1><Answer>1</Answer>")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<Step1>a</Step1>",
        "<Answer>1</Answer>",
        "<Step2>a</Step2><Answer>1</Answer>",
        "<Step1>a</Step1><Step3>b</Step3><Answer>1</Answer>",
        "<Step1>a</Step1><Step1>b</Step1><Answer>1</Answer>",
        "<step1>a</step1><Answer>1</Answer>",
        "<Step 1>a</Step 1><Answer>1</Answer>",
        "<Step1>a<Answer>1</Answer>",
        "<Step1></Step1><Answer>1</Answer>",
        "<Step1>a <Key> </Key></Step1><Answer>1</Answer>",
        "<Step1>a</Step1><Answer> </Answer>",
        "<Step1>a</Step1> so <Answer>1</Answer>",
        "Sure! <Step1>a</Step1><Answer>1</Answer>",
        "<Step1>a</Step1><Answer>1</Answer> done",
        "<Step1>a</Step1><Key>k</Key><Answer>1</Answer>",
        "<Step1>a<Key>k</Step1></Key><Answer>1</Answer>",
        "<Step1>a</Step1><Answer>1</Answer><Generalized>g</Generalized>",
        "<Step1>a</Step1><Answer>1</Answer><Answer>1</Answer>",
        "<Step1>a<Cause>c</Cause></Step1><Answer>1</Answer>",
        "**<Step1>**a</Step1><Answer>1</Answer>",
    ],
)
def test_is_strict_refuses(text):
    assert not is_strict(text)


def test_format_solution_writes_the_key_last_and_boxes_values():
    assert format_solution(parse_solution(STRICT)) == STRICT.replace(
        "<Key>7+5=12, 4+8+1=13</Key> 47+85=132", "47+85=132 <Key>7+5=12, 4+8+1=13</Key>"
    )
    assert format_solution(Solution(answer="Tommy raises $221.")) == "<Answer>Tommy raises $221.</Answer>"
    assert format_solution(Solution(answer="}")) == "<Answer>}</Answer>"
    assert format_solution(Solution()) == ""


def test_format_critique_rewrites_steps_verbatim_up_to_the_wrong_one():
    assert format_critique(parse_solution(STRICT), WRONG) == (
        "<Step1>Grows by 85, so add. <Key>7+5=12, 4+8+1=13</Key> 47+85=132"
        "<Evaluate>This step is correct.</Evaluate></Step1>\n"
        "<Step2>Three times: 132*3=386<Evaluate>This step is wrong.</Evaluate>"
        "<Cause>132*3 was multiplied wrongly.</Cause>"
        "<Correction>Three times: 132*3=396</Correction></Step2>"
    )


def test_format_critique_without_error_judges_every_step_and_repeats_the_answer():
    solution = parse_solution("<Step 1:>Correction: 1+1=2</Step 1:><Answer>2</Answer>")
    written = format_critique(solution, Critique())
    assert written == (
        "<Step1>Correction: 1+1=2<Evaluate>This step is correct.</Evaluate></Step1>\n"
        "<Answer>\\boxed{2}</Answer>"
    )
    assert (parse_critique(written).step, parse_critique(written).readable) == (None, True)


def test_critique_prefix_splits_the_critics_own_trace():
    critique = parse_critique("Let me check.\n" + TRACE)
    prefix, completion = critique_prefix(parse_solution(STRICT), critique)
    assert prefix == "<Step1>47+85=132<Evaluate>ok</Evaluate></Step1>\n<Step2>132*3=386"
    assert completion == "<Evaluate>wrong</Evaluate><Cause>why</Cause><Correction>132*3=396</Correction>"


def test_critique_prefix_starts_at_the_cause_where_there_is_no_evaluate():
    critique = parse_critique("<Step1>1+1=3<Cause>why</Cause><Correction>1+1=2")
    assert critique_prefix(parse_solution("<Step1>1+1=3</Step1>"), critique) == (
        "<Step1>1+1=3",
        "<Cause>why</Cause><Correction>1+1=2</Correction>",
    )


@pytest.mark.parametrize(
    "critique",
    [
        WRONG,  # no trace at all, such as a JSON verdict
        WRONG.model_copy(update={"raw": TRACE.replace("Step2", "Step3")}),  # its trace names another step
        WRONG.model_copy(update={"raw": TRACE.lower()}),  # a dialect that the student must not learn
        WRONG.model_copy(
            update={"raw": "<Step2>a<Cause>c</Cause></Step2><Step3><Correction>d</Correction></Step3>"}
        ),
    ],
)
def test_critique_prefix_falls_back_to_the_canonical_trace(critique):
    prefix, completion = critique_prefix(parse_solution(STRICT), critique)
    assert prefix.endswith("</Step1>\n<Step2>Three times: 132*3=386")
    assert completion == (
        "<Evaluate>This step is wrong.</Evaluate><Cause>132*3 was multiplied wrongly.</Cause>"
        "<Correction>Three times: 132*3=396</Correction>"
    )
    assert prefix + completion + "</Step2>" == format_critique(parse_solution(STRICT), critique)


def test_splice_keeps_the_prefix_and_puts_the_corrected_step_behind_it():
    spliced = splice_correction(parse_solution(STRICT), WRONG)
    assert spliced == STRICT.split("\n")[0] + "\n<Step2>Three times: 132*3=396</Step2>\n"
    assert [step.text for step in parse_solution(spliced).steps][1] == "Three times: 132*3=396"


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("2+1=3\n3*4=13\nThe answer is 13.", "2+1=3\n3*4=12\n"),
        ("So:\n1. 2+1=3\n2. 3*4=13\n3. 13", "So:\n1. 2+1=3\n2. 3*4=12\n"),
        ("1) 2+1=3\n2) 3*4=13", "1) 2+1=3\n2) 3*4=12\n"),
        ("Step 1: 2+1=3\nStep 2: 3*4=13\n", "Step 1: 2+1=3\nStep 2: 3*4=12\n"),
        ("Step 1\n2+1=3\nStep 2\n3*4=13\n", "Step 1\n2+1=3\nStep 2: 3*4=12\n"),
        ("**Step 1: Add** 2+1=3\n**Step 2: 3*4=13**\n", "**Step 1: Add** 2+1=3\n**Step 2:** 3*4=12\n"),
        ("Step 1: a <Key>k</Key>\nStep 2: 3*4=13", "Step 1: a <Key>k</Key>\nStep 2: 3*4=12\n"),
        ("Step 1: a\nStep 2: 3*4=13\n<Answer>13</Answer>", "Step 1: a\nStep 2: 3*4=12\n"),
    ],
)
def test_a_correction_is_spliced_in_the_students_own_dialect(text, corrected):
    solution = parse_solution(text)
    for said in ("3*4=12", "Step 2: 3*4=12", "2. 3*4=12", "**Step 2:**\n3*4=12", "Answer: 3*4=12"):
        spliced = splice_correction(solution, Critique(step=2, correction=said))
        assert spliced == corrected
    assert len(parse_solution(spliced + "so").steps) >= 2


def test_a_correction_of_several_lines_and_tags_is_one_line_of_a_plain_text():
    plain = parse_solution("2+1=3\n3*4=13\nThe answer is 13.")
    said = "3*4\n\n= <Key>carry</Key>12\nStep 3: </Step2><Answer>7</Answer>"
    spliced = splice_correction(plain, Critique(step=2, correction=said))
    assert spliced == "2+1=3\n3*4 = carry12 Step 3: 7\n"
    hidden = splice_correction(plain, Critique(step=2, correction="<St<Key>ep2>3*4=12"))
    assert not read_tags(hidden)


def test_a_line_of_nothing_but_marks_is_no_step():
    assert splice_correction(parse_solution("a"), Critique(step=1, correction="1. " * 20)) == "\n"


@pytest.mark.parametrize(
    ("behind", "answer"),
    [
        ("So the answer is 12.", "12"),
        ("The answer is 12, because 3*4=12 and 2+1=3", "12"),
        ("The answer is $12$ because of step 2.", "12"),
        ("The final answer is **1,234**.\nI hope this helps!", "1,234"),
        ("Then the answer is \\(12\\).", "12"),
        ("So 3*4 is 12", "12"),
        ("12", "12"),
        ("So it takes 1 1/2 hours.", "1 1/2"),
        ("So it takes 1\\frac{1}{2} hours.", "1\\frac{1}{2}"),
        ("So it takes 0.5 1/2 times.", "1/2"),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_the_words_behind_the_last_tag_may_say_the_answer(behind, answer):
    text = f"<Step1>2+1=3</Step1>\n<Step2>3*4=99</Step2>\n{behind}"
    assert extract_answer(text) == (answer, "last_number" if answer else "none")


@pytest.mark.parametrize(
    "text",
    [
        "<Step1>2+1=3</Step1>\n<Step2>3*4=12",
        "<Step1>2+1=3</Step1>\n<Step2>see <Key>3*4</Key> 3*4=12",
        "<Step1>2+1=3</Step1> 12 <Answer></Answer>",
        "Step 1: 2+1=3\nStep 2: 12 <Key>carry</Key>",
        "<think>maybe 99",
        "<think>maybe \\boxed{99}",
    ],
)
def test_no_number_elsewhere_is_an_answer(text):
    assert extract_answer(text) == (None, "none")


def test_headings_with_keys_may_say_the_answer_behind_them():
    assert extract_answer("Step 1: 3*4 <Key>carry</Key>\nStep 2: so 12")[0] == "12"


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("so \\boxed{99}.", "so 99."),
        ("$\\boxed{\\frac{1}{2}}$ and \\fbox {3}", "$\\frac{1}{2}$ and 3"),
        ("\\boxed 7", "7"),
        ("\\boxed{7", "7"),
        ("\\frac{1}{2}}", "\\frac{1}{2}}"),
    ],
)
def test_a_box_gives_up_its_content(text, bare):
    assert without_boxes(text) == bare


def test_a_box_inside_a_box_is_no_box_either():
    for text in ("\\bo\\boxed{}xed{99}", "\\boxed{\\boxed{99}}", "\\boxed{" * 5_000):
        assert extract_answer(f"<Step1>{without_boxes(text)}</Step1>") == (None, "none")


@pytest.mark.parametrize("function", [critique_prefix, splice_correction])
def test_misuse_names_argument_and_remedy(function):
    solution = parse_solution(STRICT)
    with pytest.raises(DataError, match=r"critique\.step=None"):
        function(solution, Critique())
    with pytest.raises(ValueError, match=r"step=9.*past the last step \(2\).*1\.\.2"):
        function(solution, Critique(step=9, cause="c", correction="d"))


# Text without the tags themselves, and without \boxed, which would be read as the answer.
_PIECES = [*"ab7 \n<>&${}\\/'*`^_", "x<y", "&lt;", "<b>", "</p>", "步", "Step 1: ", "Answer: 3", "1. ", "```"]
_PLAIN = (
    st.lists(st.one_of(st.sampled_from(_PIECES), st.characters(exclude_characters="#")), max_size=12)
    .map(lambda pieces: "".join(pieces).strip())
    .filter(lambda text: not read_tags(f"{text}<") and not any("\ud800" <= c <= "\udfff" for c in text))
)
_FILLED = _PLAIN.filter(bool)


@st.composite
def _solutions(draw):
    bodies = draw(st.lists(st.tuples(_PLAIN, st.none() | _FILLED), max_size=4))
    return Solution(
        steps=tuple(Step(index=i, text=text, key=key) for i, (text, key) in enumerate(bodies, 1)),
        generalized=draw(st.none() | _FILLED),
        answer=draw(st.none() | _FILLED),
    )


@settings(deadline=None)
@given(_solutions())
def test_solution_round_trip(solution):
    written = format_solution(solution)
    read = parse_solution(written)
    assert [(s.index, s.text, s.key) for s in read.steps] == [
        (s.index, s.text, s.key) for s in solution.steps
    ]
    assert (read.generalized, read.answer) == (solution.generalized, solution.answer)
    assert written.startswith(read.prefix(1) if read.steps else "")
    complete = solution.steps and all(s.text or s.key for s in solution.steps) and solution.answer
    assert is_strict(written) == bool(complete)


@settings(deadline=None)
@given(_solutions().filter(lambda s: s.steps), _PLAIN, _PLAIN, st.data())
def test_critique_round_trip(solution, cause, correction, data):
    step = data.draw(st.integers(1, len(solution.steps)))
    critique = Critique(step=step, cause=cause, correction=correction)
    written = format_critique(parse_solution(format_solution(solution)), critique)
    read = parse_critique(written)
    assert (read.step, read.cause, read.correction, read.readable) == (step, cause, correction, True)
    assert "".join(critique_prefix(solution, critique)) == written.removesuffix(f"</Step{step}>")
    assert "".join(critique_prefix(solution, read)) == written.removesuffix(f"</Step{step}>")


@settings(deadline=None)
@given(_solutions().filter(lambda s: s.steps))
def test_no_error_round_trip(solution):
    read = parse_critique(format_critique(solution, Critique()))
    assert (read.step, read.cause, read.correction, read.readable) == (None, "", "", True)


_SHARDS = [
    "<Step1>", "</Step1>", "<Step 2:>", "</Step", "<step", "<Key>", "</Key>", "<Generalized:>",
    "<Answer>", "</Answer>", "<Evaluate>", "</Evaluate>", "<Cause>", "</Cause>", "<Correction>",
    "</Correction>", "<think>", "</think>", "\\boxed{", "}", "{", "\\", "\n", " ", "x", "12", "\x00",
    "\ud800", "\udfff", "Step 3: ", "**", "```", "1. ", "2. ", "Answer: ", "#### ", "None", "<", ">",
    "&lt;", "：",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from(_SHARDS), max_size=40).map("".join))
def test_reading_never_raises_and_offsets_hold(text):
    solution = parse_solution(text)
    assert len(solution.raw) == len(text)
    ends = [0]
    for step in solution.steps:
        assert ends[-1] <= step.start <= step.end <= len(text)
        ends.append(step.end)
    solution.model_dump_json()  # what was read can be stored
    critique = parse_critique(text)
    critique.model_dump_json()
    assert critique.readable or critique.step is None
    is_strict(text)


_HOSTILE = [
    "<", "<Step1>", "<Step1 ", "</Step1>", "<Key>", "<Key><Evaluate>", "<Step1><Cause>x</Cause>",
    "<Cause>", "<Correction>", "<Step1>a</Step1>", "\\boxed{", "{", "}", "\\", " ", "\n", " \n", "#",
    "*", "**<", "`", "-", "1,234", "</think>", "<think>", "1. a\n", "Step 1: a\n", "**Answer:** 1\n",
    "&lt;", "a<b ", "</", "<Step1:", "<Answer>\\boxed{", "/", "not ", "wrong ",
]  # fmt: skip


@pytest.mark.parametrize("shard", _HOSTILE)
def test_hostile_text_is_read(shard):
    text = shard * (20_000 // len(shard))
    assert parse_solution(text).raw == text
    assert isinstance(parse_critique(text).readable, bool)
    assert not is_strict(text)


def test_a_megabyte_is_read():
    text = "<Step1>Since $a<b$, \\boxed{1} & <Key>so</Key></Step1>\n" * 4_000 + "<" * 800_000
    assert len(parse_solution(text).steps) == 4_000


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 1 1/2.", "1 1/2"),
        ("-2 3/4", "-2 3/4"),
        ("x^2\\frac{1}{2}", "\\frac{1}{2}"),
        ("3 12", "12"),
    ],
)
def test_a_mixed_number_is_read_whole(text, answer):
    assert extract_answer(text) == (answer, "last_number")
