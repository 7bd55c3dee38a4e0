"""Prompts: rendering in one pass, replacement from a file, and the student's messages."""

import re

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from supercorrect_agent.errors import PromptError
from supercorrect_agent.prompts import (
    DEFAULT_PROMPTS,
    Prompt,
    PromptSet,
    fence,
    load_prompts,
    render_prompt,
    review_messages,
    student_messages,
)

SHORT = Prompt(id="t", version="1", text=r"Solve {problem} in \boxed{x}, {problem}: {unknown} {{solution}}")


def write(tmp_path, text):
    path = tmp_path / "prompts.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_rendering_is_one_pass_and_leaves_other_braces():
    rendered = render_prompt(SHORT, problem=r"$\frac{1}{2}$ {solution} \1", solution="S {problem}")
    assert rendered == (
        r"Solve $\frac{1}{2}$ {solution} \1 in \boxed{x}, "
        r"$\frac{1}{2}$ {solution} \1: {unknown} {S {problem}}"
    )


def test_a_misspelt_value_and_a_missing_value_are_errors():
    with pytest.raises(PromptError, match=r"`problm` is not a placeholder.*'problem'"):
        render_prompt(SHORT, problm="1")
    with pytest.raises(PromptError, match=r"Prompt 't' needs a value for \{solution\}"):
        render_prompt(SHORT, problem="1")


def test_notes_may_be_left_out_without_a_trace():
    prompt = Prompt(id="t", version="1", text="A {problem}\n\n{notes}")
    assert render_prompt(prompt, problem="p") == "A p"
    assert render_prompt(prompt, problem="p\n", notes="n") == "A p\n\n\nn"


def test_default_prompts_fill_completely():
    values = {
        name: f"<<{name}>>"
        for name in ("problem", "solution", "reference", "critique", "notes", "prefix", "examples")
    }
    names = [field if field != "continue_" else "continue" for field in PromptSet.model_fields]
    for name, prompt in zip(
        names, (getattr(DEFAULT_PROMPTS, f) for f in PromptSet.model_fields), strict=True
    ):
        version = "2" if name == "review" else "1"
        assert (prompt.id, prompt.version) == (f"supercorrect.{name}", version)
        rendered = render_prompt(prompt, **values)
        assert "<<problem>>" in rendered
        for slot in prompt.placeholders:
            assert f"<<{slot}>>" in rendered
        assert not re.search(r"\{(problem|solution|reference|critique|notes|prefix|examples)\}", rendered)
        assert "{{" not in rendered


def test_only_the_prompts_that_may_see_the_reference_have_it():
    with_reference = {
        name for name in PromptSet.model_fields if "reference" in getattr(DEFAULT_PROMPTS, name).placeholders
    }
    assert with_reference == {"grounded", "template", "inspect", "inspect_template"}


def test_the_review_prompt_asks_for_a_correction_trace():
    text = DEFAULT_PROMPTS.review.text
    for tag in ("<Step1>", "<Evaluate>", "<Cause>", "<Correction>", "<Answer>"):
        assert tag in text
    assert "reference" not in text.lower()


def test_student_messages():
    (asked,) = student_messages(DEFAULT_PROMPTS, "2+2 {solution}?")
    assert isinstance(asked, HumanMessage)
    assert asked.content == render_prompt(DEFAULT_PROMPTS.solve, problem="2+2 {solution}?")
    assert asked.content.endswith("Problem:\n2+2 {solution}?")
    again, begun = student_messages(DEFAULT_PROMPTS, "2+2 {solution}?", partial="<Step1>a</Step1>\n")
    assert again == asked
    assert begun == AIMessage("<Step1>a</Step1>\n")
    assert student_messages(DEFAULT_PROMPTS, "2+2 {solution}?", partial="") == [asked]


def test_review_messages():
    (asked,) = review_messages(DEFAULT_PROMPTS, "Q {solution}", "<Step1>{problem}</Step1>")
    assert asked.content.endswith(
        "Problem:\n<problem>\nQ {solution}\n</problem>\n\n"
        "Solution to check:\n<solution>\n<Step1>{problem}</Step1>\n</solution>"
    )
    _, begun = review_messages(DEFAULT_PROMPTS, "Q", "S", prefix="<Step1>a")
    assert begun == AIMessage("<Step1>a")


def test_no_closing_tag_leaves_a_fence_of_the_review_prompt():
    (asked,) = review_messages(DEFAULT_PROMPTS, "Q</problem>x", "S</solution>< / SOLUTION></problem>y")
    assert asked.content.endswith(
        "<problem>\nQ&lt;/problem>x\n</problem>\n\n"
        "Solution to check:\n<solution>\nS&lt;/solution>&lt; / SOLUTION></problem>y\n</solution>"
    )


def test_words_without_fences_are_filled_as_they_were_trained(tmp_path):
    trained = load_prompts(write(tmp_path, '[review]\ntext = "{problem}<solution>{solution}</s>"'))
    (asked,) = review_messages(trained, "Q</problem>", "S</solution>")
    assert asked.content == "Q</problem><solution>S</solution></s>"


def test_a_file_replaces_single_prompts(tmp_path):
    prompts = load_prompts(
        write(
            tmp_path,
            '[solve]\nid = "sandbox.solve"\nversion = 2\ntext = "{problem}\\n"\n'
            '[continue]\ntext = "{problem}|{prefix}"\n',
        )
    )
    assert prompts.solve == Prompt(id="sandbox.solve", version="2", text="{problem}\n")
    assert render_prompt(prompts.solve, problem="p") == "p\n"
    assert prompts.continue_.id == "custom.continue"
    assert len(prompts.continue_.version) == 16  # a hash: other words, other version
    assert prompts.review == DEFAULT_PROMPTS.review
    assert PromptSet.model_validate(prompts.model_dump(by_alias=True)) == prompts
    assert PromptSet.model_validate(prompts.model_dump()) == prompts


def test_latex_in_a_file_is_no_placeholder(tmp_path):
    text = (
        r"[solve]"
        + "\ntext = '''{problem} \\boxed{answer} x^{note} \\frac{some}{thing} {x} {\"json\": 1}'''\n"
    )
    assert load_prompts(write(tmp_path, text)).solve.text.startswith("{problem} \\boxed{answer}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[slove]\ntext = "{problem}"', r"unknown table \[slove\]. Did you mean 'solve'\?"),
        ('[zzz]\ntext = "{problem}"', "Use one of: continue, grounded, inspect"),
        (
            '[solve]\ntext = "{problem} {problme}"',
            r"unknown placeholder \{problme\}. Did you mean 'problem'\?",
        ),
        ('[solve]\ntext = "{problem} {solution}"', r"unknown placeholder \{solution\}"),
        ('[review]\ntext = "{solution}"', r"\[review\] in .* lacks \{problem\}"),
        ('[solve]\ntxet = "{problem}"', r"\[solve\] in .* has no text"),
        ('[solve]\ntext = "{problem}"\nverison = "1"', "unknown key 'verison'. Did you mean 'version'"),
        ("[solve]\ntext = 3", "has no text"),
        ('solve = "{problem}"', "has no text"),
        ("[solve", "cannot be read"),
    ],
)
def test_a_bad_file_is_one_clear_sentence(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(path)
    assert str(path) in str(caught.value)


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(PromptError, match="cannot be read"):
        load_prompts(tmp_path / "nowhere.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PromptError, match="cannot be read"):
        load_prompts(binary)


def test_fence_neutralises_the_closing_tag():
    assert fence("a</Solution >b< / SOLUTION>c</solutions>", "solution") == (
        "<solution>\na&lt;/Solution >b&lt; / SOLUTION>c</solutions>\n</solution>"
    )
    assert fence("$a<b$ <Step1>", "problem") == "<problem>\n$a<b$ <Step1>\n</problem>"
