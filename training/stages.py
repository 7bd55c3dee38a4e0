"""The stages of a loop in its run folder: each takes its settings from the loop, and is run once.

A stage that has left its result is skipped, so the same command goes on after an interruption; within a
stage, collecting goes on with the missing traces and training with the last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from supercorrect_agent.store import open_store, summarize_traces
from training.collect import run_collect
from training.config import CollectionConfig, DatasetConfig, DpoConfig, LoopConfig, SftConfig, TrainConfig
from training.data import run_data
from training.dpo import run_dpo
from training.evaluate import run_evaluate
from training.folders import replace_text
from training.launch import launch_training, profile_path
from training.progress import Say
from training.sft import run_sft
from training.sources import chat_name

STAGES_FILE = "stages.jsonl"


class Student(NamedTuple):
    """A model and the adapter on top of it, if any."""

    model: str
    adapter: Path | None = None

    @property
    def chat(self) -> str:
        """The model's name for `load_chat_model`."""
        return chat_name(self.model)

    @property
    def folder(self) -> str:
        """Where its own weights are."""
        return str(self.adapter or self.model)


def trained_student(config: TrainConfig) -> Student:
    """The student that a finished training stage left."""
    return Student(str(config.output)) if config.full else Student(config.model, config.output)


@dataclass(frozen=True)
class Stages:
    """Runs the stages of one loop.

    Attributes:
        config: The loop's settings.
        say: Takes progress lines.
        keep: File descriptors that processes started here hold open too.
    """

    config: LoopConfig
    say: Say
    keep: tuple[int, ...] = ()

    def collect(self, stage: CollectionConfig, student: Student, store: Path, number: int) -> Path:
        """Collects with a student and sums the store up beside it; every round draws other problems."""
        changes = {"student": student.chat, "adapter": student.adapter, "teacher": self.config.teacher}
        seed = stage.seed + 1000 * (number - 1)
        run = stage.model_copy(update={**changes, "store": store, "seed": seed})
        summary = store.with_name(f"{store.name}.json")

        def collect() -> None:
            run_collect(run, say=self.say)
            # Summed up from the store: an interrupted collection counts in full.
            write_json(summary, summarize_traces(open_store(store, must_exist=True)))

        self.once("collect", summary, collect)
        return store

    def build(self, stage: DatasetConfig, output: Path, stores: tuple[Path, ...], **changes: Any) -> Path:
        """Builds a dataset folder from trace stores."""
        run = stage.model_copy(update={"store": stores, "output": output, **changes})
        self.once("build", output / "manifest.json", lambda: run_data(run, say=self.say))
        return output

    def train(self, stage: SftConfig | DpoConfig) -> Student:
        """Trains in this process, or under the loop's profile of Accelerate."""
        profile = self.config.accelerate

        def train() -> Path:
            if profile is not None:
                processes = self.config.num_processes
                return launch_training(stage, profile_path(profile), processes, say=self.say, keep=self.keep)
            return (
                run_dpo(stage, say=self.say) if isinstance(stage, DpoConfig) else run_sft(stage, say=self.say)
            )

        self.once("train", stage.output / "run.json", train)
        return trained_student(stage)

    def evaluate(self, student: Student, output: Path, **changes: Any) -> Path:
        """Measures a student."""
        who = {"student": student.chat, "adapter": student.adapter, "teacher": self.config.teacher}
        run = self.config.evaluate.model_copy(update={**who, "output": output, **changes})
        self.once("evaluate", output, lambda: run_evaluate(run, say=self.say))
        return output

    def once(self, verb: str, result: Path, run: Callable[[], object]) -> None:
        """Runs a stage unless its result is there, and notes what it cost."""
        if result.exists():
            self.say(f"loop: {result} is there already")
            return
        place = result.parent if result.stem in ("run", "manifest") else result.with_suffix("")
        stage = f"{verb} {place.relative_to(self.config.folder)}"
        self.say(f"loop: {stage}")
        started = time.monotonic()
        run()
        cost = {
            "stage": stage,
            "seconds": round(time.monotonic() - started, 1),
            "tokens": _tokens(read_json(result)),
        }
        with (self.config.folder / STAGES_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(cost) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    replace_text(path, json.dumps(content, indent=2) + "\n")


def _tokens(result: dict[str, Any]) -> int:
    """Tokens a stage trained on, or read and wrote with all its models; 0 for building rows."""
    if "results" in result:  # a trainer's run
        return int(result["results"].get("num_tokens", 0))
    if "usage" in result:  # a collection
        return sum(each["input_tokens"] + each["output_tokens"] for each in result["usage"].values())
    return sum(sum(arm["output_tokens"].values()) for arm in result.get("arms", {}).values())
