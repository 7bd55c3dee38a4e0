"""The closed loop in one run folder: collect, build, SFT, collect, build, DPO, evaluate, and around again.

    python -m training.loop --config training/configs/sandbox.yaml --folder runs/loop

Every round trains from the base model on all traces so far (stage 1), then on pairs of its own student's
errors (stage 2: the rejected side must be the reference's own text, decision B19). A stage whose result is
there is skipped, so the same command goes on after an interruption.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from training.collect import run_collect
from training.config import CollectionConfig, DpoConfig, LoopConfig, SftConfig, TrainConfig
from training.data import load_rows, run_data
from training.dpo import run_dpo
from training.evaluate import compare_evaluations, run_evaluate
from training.flags import run_main
from training.folders import make_folder
from training.progress import Say, print_line
from training.sft import run_sft
from training.sources import is_local

REPORT_FILE = "report.json"
STAGES_FILE = "stages.jsonl"
PLAIN: dict[str, Any] = {"style": "plain", "arms": ("single",)}


class Student(NamedTuple):
    """A model and the adapter on top of it, if any."""

    model: str
    adapter: Path | None = None

    @property
    def chat(self) -> str:
        """The model's name for `load_chat_model`."""
        return self.model if is_local(self.model) else f"local:{self.model}"


def trained_student(config: TrainConfig) -> Student:
    """The student that a finished training stage left."""
    return Student(str(config.output)) if config.full else Student(config.model, config.output)


def matched_epochs(epochs: float, tokens: int, control_tokens: int) -> float:
    """Epochs over the control's rows that show it as many tokens as the main run sees in ``epochs``."""
    return epochs * tokens / control_tokens


def run_loop(config: LoopConfig, *, say: Say = print_line) -> Path:
    """Runs the rounds and returns the run folder, with ``report.json`` in it.

    Raises:
        SuperCorrectError: A stage cannot run; what is finished stays and is not run again.
    """
    make_folder(config.folder, argument="folder")
    (config.folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    base = Student(config.model)
    evaluations = {"base": _evaluate(config, base, config.folder / "base.json", say)}
    student, stores = base, list[Path]()
    for number in range(1, config.rounds + 1):
        folder = config.folder / f"round{number}"
        label = "" if config.rounds == 1 else f" (round {number})"
        stores.append(_collect(config, config.collect, student, folder / "traces", number, say))
        if config.control:
            plain = _train_control(config, folder, tuple(stores), say)
            path = folder / "plain.json"
            evaluations[f"plain SFT{label}"] = _evaluate(config, plain, path, say, **PLAIN)
        hsft = _train_sft(config, folder, tuple(stores), say)
        evaluations[f"HSFT{label}"] = _evaluate(config, hsft, folder / "hsft.json", say)
        student = _train_dpo(config, folder, hsft, number, say)
        evaluations[f"HSFT + DPO{label}"] = _evaluate(config, student, folder / "dpo.json", say)
        _report(config.folder, evaluations, say)
    return config.folder


def _train_sft(config: LoopConfig, folder: Path, stores: tuple[Path, ...], say: Say) -> Student:
    rows = _build_rows(config, folder / "rows", stores, say)
    sft = config.sft.model_copy(update={"model": config.model, "data": rows, "output": folder / "sft"})
    return _train(config, sft, say)


def _train_control(config: LoopConfig, folder: Path, stores: tuple[Path, ...], say: Say) -> Student:
    """The same problems as plain solutions, trained on as many tokens as the hierarchical rows have."""
    hierarchical = _build_rows(config, folder / "rows", stores, say)
    rows = _build_rows(config, folder / "plain_rows", stores, say, style="plain", max_tokens=None)
    tokens = [load_rows(path)[1].tokens for path in (hierarchical, rows)]
    epochs = matched_epochs(config.sft.num_train_epochs, *tokens)
    changes = {"data": rows, "output": folder / "plain_sft", "num_train_epochs": epochs}
    return _train(config, config.sft.model_copy(update={"model": config.model, **changes}), say)


def _build_rows(config: LoopConfig, output: Path, stores: tuple[Path, ...], say: Say, **changes: Any) -> Path:
    where = {"kind": "sft", "store": stores, "output": output, "tokenizer": config.model}
    rows = config.rows.model_copy(update={**where, **changes})
    _once(config, "build", output / "manifest.json", say, lambda: run_data(rows, say=say))
    return output


def _train_dpo(config: LoopConfig, folder: Path, hsft: Student, number: int, say: Say) -> Student:
    store = _collect(config, config.collect_pairs, hsft, folder / "pair_traces", number, say)
    pairs = config.pairs.model_copy(
        update={"kind": "preference", "store": (store,), "output": folder / "pairs", "tokenizer": hsft.model}
    )
    _once(config, "build", pairs.output / "manifest.json", say, lambda: run_data(pairs, say=say))
    start = {"model": hsft.model, "adapter": hsft.adapter}
    dpo = config.dpo.model_copy(update={**start, "data": pairs.output, "output": folder / "dpo"})
    return _train(config, dpo, say)


def _train(config: LoopConfig, stage: SftConfig | DpoConfig, say: Say) -> Student:
    run: Callable[[], Path] = (
        (lambda: run_dpo(stage, say=say))
        if isinstance(stage, DpoConfig)
        else (lambda: run_sft(stage, say=say))
    )
    _once(config, "train", stage.output / "run.json", say, run)
    return trained_student(stage)


def _collect(
    config: LoopConfig, stage: CollectionConfig, student: Student, store: Path, number: int, say: Say
) -> Path:
    """Collects with a student; every round draws other problems."""
    run = stage.model_copy(
        update={
            "student": student.chat,
            "adapter": student.adapter,
            "teacher": config.teacher,
            "store": store,
            "seed": stage.seed + 1000 * (number - 1),
        }
    )
    summary = store.with_name(f"{store.name}.json")
    _once(config, "collect", summary, say, lambda: _write_json(summary, run_collect(run, say=say)))
    return store


def _evaluate(config: LoopConfig, student: Student, output: Path, say: Say, **changes: Any) -> Path:
    run = config.evaluate.model_copy(
        update={
            "student": student.chat,
            "adapter": student.adapter,
            "teacher": config.teacher,
            "output": output,
            **changes,
        }
    )
    _once(config, "evaluate", output, say, lambda: run_evaluate(run, say=say))
    return output


def _report(folder: Path, evaluations: dict[str, Path], say: Say) -> None:
    """Writes the accuracies of every student and their paired differences from the base, and prints them."""
    reports = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in evaluations.items()}
    rows = {name: report["arms"] for name, report in reports.items()}
    changes = {
        name: compare_evaluations(reports["base"], report)
        for name, report in reports.items()
        if name != "base"
    }
    files = {name: str(path.relative_to(folder)) for name, path in evaluations.items()}
    _write_json(folder / REPORT_FILE, {"arms": rows, "against_base": changes, "files": files})
    for name, arms in rows.items():
        shares = (f"{arm} {each['accuracy']['value']:.1%}" for arm, each in arms.items())
        say(f"loop: {name}: {', '.join(shares)}")


def _once(config: LoopConfig, verb: str, result: Path, say: Say, run: Callable[[], object]) -> None:
    """Runs a stage unless its result is there, and notes what it cost."""
    if result.exists():
        say(f"loop: {result} is there already")
        return
    started = time.monotonic()
    run()
    place = result.parent if result.stem in ("run", "manifest") else result.with_suffix("")
    cost = {
        "stage": f"{verb} {place.relative_to(config.folder)}",
        "seconds": round(time.monotonic() - started, 1),
        "tokens": _tokens(json.loads(result.read_text(encoding="utf-8"))),
    }
    with (config.folder / STAGES_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(cost) + "\n")


def _tokens(result: dict[str, Any]) -> int:
    """Tokens a stage trained on, or read and wrote with all its models; 0 for building rows."""
    if "results" in result:  # a trainer's run
        return int(result["results"].get("num_tokens", 0))
    if "collected" in result:
        return sum(result["tokens"].values())
    return sum(sum(arm["output_tokens"].values()) for arm in result.get("arms", {}).values())


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    return run_main(LoopConfig, run_loop, program="training.loop")


if __name__ == "__main__":
    sys.exit(main())
