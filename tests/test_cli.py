"""The command line: what it prints, its exit codes, and one clear sentence for whatever goes wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from supercorrect_agent.cli.live import LiveRun
from supercorrect_agent.cli.screen import SolutionWriter
from supercorrect_agent.store import open_store
from tests.commands import QUESTION, RIGHT, WRONG, assert_one_sentence, heed_ctrl_c, run_cli
from tests.fakes import ScriptedChatModel

REST = "<Answer>\\boxed{37}</Answer>"  # behind the corrected second step


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "supercorrect_agent.cli", *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        **options,
    )


def run_process(*words: str) -> tuple[int, str, str]:
    process = start(*words)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


@pytest.fixture
def student(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets `--student fake:x` be a scripted model; returns the function that writes its script."""

    def script(*replies: Any) -> ScriptedChatModel:
        model = ScriptedChatModel(replies=list(replies), metadata={"prefill": "vllm"})
        monkeypatch.setattr("supercorrect_agent.graph.load_chat_model", lambda spec: model)
        return model

    return script


# --- solve


def test_solve_shows_the_vote_of_several_samples(student: Any) -> None:
    model = student(RIGHT, WRONG, RIGHT)
    result = run_cli("solve", QUESTION, "--student", "fake:x", "--teacher", "sandbox", "--samples", "3")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[:2] == ["Samples  37 (2), 36 (1); 67% agree", "student"]
    assert "Answer  37" in lines
    assert [options["temperature"] for options in model.options] == [0.7] * 3


def test_solve_asks_the_teacher_only_about_what_the_student_doubts(student: Any) -> None:
    review = "<Step1>12+30=42</Step1><Step2>42-5=37</Step2><Answer>\\boxed{37}</Answer>"  # no cause: no error
    student(RIGHT, review)
    options = ("--student", "fake:x", "--teacher", "sandbox", "--flagged", "--json")
    found = json.loads(run_cli("solve", QUESTION, *options).stdout)
    assert (found["status"], found["answer"]) == ("accepted", "37")
    assert {role: used["calls"] for role, used in found["usage"].items()} == {"student": 2, "teacher": 0}


def test_solve_shows_the_steps_the_marked_error_and_the_ending(student: Any) -> None:
    model = student(WRONG, REST)
    result = run_cli("solve", QUESTION, "--student", "fake:x", "--teacher", "sandbox")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[:11] == [
        "student",
        "Step 1  12+30=42",
        "Step 2  42-5=36",
        "Answer  \\boxed{36}",
        "sandbox",
        "✗ Step 2  42-5=36",
        "Cause  Slowly: 12-5=7;7 4-1=3,3-0=3;37, so 42-5 is 37, not 36.",
        lines[7],  # the teacher's words
        "student, after the corrected step 2",
        "Answer  \\boxed{37}",
        "sandbox",
    ]
    assert lines[7].startswith("Correction  ")
    assert "42-5=37" in lines[7]
    assert lines[11:14] == ["✓  no error found", "result", "Answer  37"]
    assert lines[14].startswith("Status  corrected (")
    # the fake counts words: 18 in the problem and more in the prompts; 3 + 1 written, one "word" a line
    assert lines[15].startswith("Tokens  student: ")
    assert ", 4 out (2 calls, " in lines[15]
    assert lines[16].startswith("Tokens  teacher: ")
    assert lines[17].startswith("Seconds  ")
    assert "\x1b" not in result.stdout
    assert "max_tokens" not in model.options[0]
    assert "temperature" not in model.options[0]


def test_solve_json_and_store(student: Any, tmp_path: Path) -> None:
    student(WRONG, REST)
    store = tmp_path / "runs" / "traces.jsonl"
    result = run_cli(
        "solve", QUESTION, "--student", "fake:x", "--teacher", "sandbox", "--json", "--store", str(store)
    )
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["answer"], answer["status"], answer["error"]) == ("37", "corrected", None)
    assert answer["rounds"][0]["step"] == 2
    (trace,) = open_store(store)
    assert trace.id == answer["trace_id"]
    assert trace.problem.question == QUESTION


def test_solve_reads_standard_input_and_passes_settings_on(student: Any) -> None:
    model = student(RIGHT)
    words = ["--student", "fake:x", "--teacher", "sandbox", "--max-tokens", "9", "--temperature", "0.5"]
    result = run_cli("solve", "-", *words, stdin=QUESTION)
    assert result.exit_code == 0
    assert "Status  accepted" in result.stdout
    assert QUESTION in model.prompts[0][0].text
    assert model.options[0] | {"max_tokens": 9, "temperature": 0.5} == model.options[0]


def test_solve_without_teacher_is_self_review(student: Any) -> None:
    student(RIGHT, "<Step1>12+30=42<Evaluate>ok</Evaluate></Step1>\n<Answer>\\boxed{37}</Answer>")
    result = run_cli("solve", QUESTION, "--student", "fake:x")
    assert result.exit_code == 0
    assert "scripted\n  ✓  no error found" in result.stdout
    assert "Evaluate" not in result.stdout


def test_rounds_zero_asks_nobody(student: Any) -> None:
    student(WRONG)
    result = run_cli("solve", QUESTION, "--student", "fake:x", "--teacher", "sandbox", "--rounds", "0")
    assert result.exit_code == 0
    assert "Status  accepted" in result.stdout


def test_a_problem_the_teacher_cannot_read_keeps_the_students_answer(student: Any) -> None:
    student("<Step1>Hello.</Step1><Answer>5</Answer>")
    result = run_cli("solve", "Write a poem.", "--student", "fake:x", "--teacher", "sandbox")
    assert_one_sentence(result, 1, "teacher: The sandbox's teacher reads only", "--teacher openai:NAME")
    assert "Answer  5" in result.stdout
    assert "Status  error" in result.stdout


def test_an_unreadable_reply_fails_the_run(student: Any) -> None:
    student("I would rather not.", "Still not.")
    result = run_cli("solve", QUESTION, "--student", "fake:x", "--rounds", "0")
    assert_one_sentence(result, 1, "no final answer could be read", "Raise --max-tokens")


def test_a_prompt_file_wins(student: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[solve]\ntext = "FILE {problem}"\n')
    model = student(RIGHT)
    words = ["--student", "sandbox", "--prompts", str(tmp_path / "mine.toml")]
    assert run_cli("solve", QUESTION, *words).exit_code == 0
    assert model.prompts[0][0].text == f"FILE {QUESTION}"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["no problem", 'for example: supercorrect solve "']),
        (["  \n "], ["no problem", "Pass its text"]),
        (["2+2", "--student", "nosuch"], ["'nosuch' names no chat model", "local:FOLDER"]),
        (["2+2", "--student", "nosuch:model"], ["nosuch", "Write"]),
        (["2+2", "--teacher", "gpt"], ["'gpt' names no chat model"]),
        (["2+2", "--student", "vllm:name"], ["names no server", "vllm:NAME@URL"]),
        (
            ["2+2", "--prompts", "/nowhere/p.toml"],
            ["'/nowhere/p.toml' cannot be read", "Pass a readable TOML"],
        ),
        (["2+2", "--store", "/dev/null/x"], ["'/dev/null/x", "pass a folder"]),
        (["2+2", "--store", __file__], ["test_cli.py' is a file", "Pass a folder or a .jsonl file"]),
    ],
)
def test_misuse_is_one_sentence(words: list[str], parts: list[str], student: Any) -> None:
    if "--student" not in words and "--teacher" not in words:
        student(RIGHT)
    elif "--teacher" in words:
        words = [*words, "--student", "vllm:x@http://127.0.0.1:9"]  # made without asking the server
    assert_one_sentence(run_cli("solve", *words), 2, *parts)


def test_standard_input_has_an_end() -> None:
    result = run_cli("solve", "-", stdin="a" * 1_000_001)
    assert_one_sentence(result, 2, "longer than 1,000,000 characters", "Pass the text of one problem")


def test_bytes_that_are_no_text_are_replaced(student: Any) -> None:
    model = student(RIGHT)
    result = run_cli("solve", "-", "--student", "fake:x", "--rounds", "0", stdin=b"caf\xe9 2+2")
    assert result.exit_code == 0
    assert "caf\ufffd 2+2" in model.prompts[0][0].text


@pytest.mark.parametrize("words", [["--rounds", "9"], ["--temperature", "-1"], ["--max-tokens", "0"]])
def test_numbers_out_of_range_name_the_option(words: list[str]) -> None:
    result = run_cli("solve", "2+2", *words)
    assert result.exit_code == 2
    assert f"Invalid value for '{words[0]}'" in result.stderr


def test_a_server_that_is_not_there() -> None:
    code, out, err = run_process("solve", QUESTION, "--student", f"vllm:tiny@http://127.0.0.1:{free_port()}")
    assert code == 1
    assert "No model server answers at http://127.0.0.1:" in err
    assert "Start one" in err
    assert "Traceback" not in out + err
    assert len(err.strip().splitlines()) == 1


def test_ctrl_c_is_one_sentence_and_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the call and never answers
        server.settimeout(150)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        words = ("solve", QUESTION, "--student", f"vllm:tiny@{url}")
        process = start(*words, start_new_session=True, preexec_fn=heed_ctrl_c)
        connection, _ = server.accept()
        connection.recv(100)
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert err == "interrupted: the command was stopped; what it had already written stays.\n"
    assert out == ""
    assert time.monotonic() - asked < 60  # it did not wait for the server
    connection.close()


def test_ctrl_c_while_loading_cannot_be_swallowed() -> None:
    code = (
        "import os, signal\nfrom supercorrect_agent.cli.endings import leaving_at_once\n"
        "with leaving_at_once():\n  try: os.kill(os.getpid(), signal.SIGINT)\n  finally: print('swallowed')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("interrupted: ")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.integration
def test_folders_that_hold_no_model_and_problems_too_long(tmp_path: Path) -> None:
    from tests.tiny import build_tiny_model

    missing = run_cli("solve", "2+2", "--student", "local:/nowhere/model")
    assert_one_sentence(missing, 2, "'/nowhere/model' does not exist", "Pass a folder")
    folder = build_tiny_model(tmp_path / "tiny", context=512)
    long = run_cli("solve", "2+2 " * 25_000, "--student", f"local:{folder}")
    assert_one_sentence(long, 1, "512 at most", "Shorten the problem")
    for file in folder.glob("token*"):
        file.unlink()
    assert_one_sentence(run_cli("solve", "2+2", "--student", f"local:{folder}"), 2, "no tokenizer", "tiny")


# --- what the terminal shows


def written(*pieces: str, terminal: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, highlight=False, markup=False, soft_wrap=True)
    writer = SolutionWriter(console)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    return out.getvalue()


def test_pieces_may_cut_a_tag_anywhere() -> None:
    text = "<Step1>First <Key>7+5=12\nthen</Key> 47+85=132</Step1>\n\n<Answer>a < b</Answer>"
    whole = "  Step 1  First [7+5=12\n  then] 47+85=132\n  Answer  a < b\n"
    assert written(text) == whole
    assert written(*text) == whole
    for cut in range(len(text)):
        assert written(text[:cut], text[cut:]) == whole


def test_plain_text_markup_and_control_characters() -> None:
    assert (
        written("First, [bold]x[/bold].\n\n", "So <b> 2\x1b[31m\x07")
        == "  First, [bold]x[/bold].\n  So <b> 2[31m\n"
    )


def test_a_terminal_gets_styles_and_the_error_in_red() -> None:
    out = StringIO()
    live = LiveRun(Console(file=out, force_terminal=True, highlight=False, markup=False, soft_wrap=True))
    live.on_event({"event": "solution", "round": 0, "text": WRONG, "answer": "36"})
    critique = {
        "step": 2,
        "cause": "Slowly: 12-5=7;7 4-1=3,3-0=3;37, so 42-5 is 37, not 36.",
        "correction": "<Key>12-5=7</Key> 42-5=37",
        "author": "t",
    }
    live.on_event({"event": "critique", "round": 1, "readable": True, **critique})
    with live:
        pass  # leaving stops the spinner
    assert "\x1b[1;31m✗ Step 2\x1b[0m  42-5=36" in out.getvalue()
    assert "\x1b[1;32mCorrection\x1b[0m  [12-5=7] 42-5=37" in out.getvalue()


# --- help and demo


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "langgraph", "langchain_core", "pydantic", "trl", "rich.console"]
    code = f"import sys, supercorrect_agent.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "[]\n"


def test_help_and_version() -> None:
    code, out, _ = run_process("--help")
    assert code == 0
    assert [word for word in ("solve", "demo", "traces", "doctor") if f"\n  {word} " not in out] == []
    assert run_process("--version")[1].startswith("supercorrect-agent ")
    assert run_cli("demo", "--help").exit_code == 0


def test_demo_without_the_training_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named 'trl' ({name})", name="trl")

    monkeypatch.setattr("supercorrect_agent.cli.demo.importlib.import_module", fail)
    assert_one_sentence(run_cli("demo"), 2, "needs 'trl'", "pip install 'supercorrect-agent[train]'")


def test_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    class Training:
        @staticmethod
        def run_demo(out: Path, quick: bool, seed: int) -> None:
            seen.append((out, quick, seed))
            if seed:
                raise KeyboardInterrupt

    monkeypatch.setattr("supercorrect_agent.cli.demo.importlib.import_module", lambda name: Training)
    assert run_cli("demo", "--out", str(tmp_path), "--quick").exit_code == 0
    assert seen == [(tmp_path, True, 0)]
    stopped = run_cli("demo", "--out", str(tmp_path), "--seed", "3")
    assert stopped.exit_code == 130
    assert stopped.stderr == f"interrupted: what was finished stays in '{tmp_path}'.\n"
    assert seen[1] == (tmp_path, False, 3)
