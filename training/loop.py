"""The closed loop in one run folder: collect, build, SFT, collect, build, DPO, gate, serve, and around again.

    python -m training.loop --config training/configs/sandbox.yaml --folder runs/loop

Every round trains from the base model on all traces so far (stage 1), then on pairs of its own student's
errors (stage 2: the rejected side must be the reference's own text, decision B19). With a ``gate``, the new
student replaces the present one only if it is better on development problems beyond the noise; the loop ends
early where the gain is inside it. The test problems are opened after the last round. A stage whose result is
there is skipped, so the same command goes on after an interruption.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from supercorrect_agent.errors import ConfigError
from training.config import LoopConfig
from training.data import load_manifest
from training.evaluate import compare_evaluations
from training.flags import run_main
from training.folders import hold_folder, make_folder
from training.gate import Decision, decide
from training.progress import Say, print_line
from training.provenance import provenance
from training.rounds import plot_rounds, round_record
from training.serve import serve_adapter
from training.stages import Stages, Student, read_json, write_json

REPORT_FILE = "report.json"
PLAIN: dict[str, Any] = {"style": "plain", "arms": ("single",)}
# May differ when a run folder is used again: they change nothing that is there already.
FREE = ("folder", "rounds", "patience", "serve", "num_processes", "evaluate_stage1")


def matched_epochs(epochs: float, tokens: int, control_tokens: int) -> float:
    """Epochs over the control's rows that show it as many tokens as the main run sees in ``epochs``."""
    return epochs * tokens / control_tokens


def run_loop(config: LoopConfig, *, say: Say = print_line) -> Path:
    """Runs the rounds and returns the run folder, with ``report.json`` in it.

    Raises:
        SuperCorrectError: A stage cannot run, or the folder holds a loop with other settings; what is
            finished stays and is not run again.
    """
    folder = make_folder(config.folder, argument="folder")
    with hold_folder(folder, argument="folder") as lock:
        _settle(config)
        return _Loop(config, Stages(config, say, lock), say).run()


def _settle(config: LoopConfig) -> None:
    """Writes the resolved settings, or holds them against those of the run that is there."""
    path = config.folder / "config.json"
    wanted = config.model_dump(mode="json")
    if path.is_file():
        _same_settings(config.folder, _read_settings(path), wanted, "")
    write_json(path, wanted)
    write_json(config.folder / "provenance.json", {"seed": config.seed, **provenance()})


def _read_settings(path: Path) -> dict[str, Any]:
    """The settings of the run that is there; what an earlier version did not know had its default."""
    try:
        return LoopConfig.model_validate(read_json(path)).model_dump(mode="json")
    except ValueError:
        raise ConfigError(
            f"`{path}` is not the settings of a loop of this version. Choose another folder."
        ) from None


def _same_settings(folder: Path, first: Any, second: Any, name: str) -> None:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in second:
            if name or key not in FREE:
                _same_settings(folder, first.get(key), second[key], f"{name}.{key}" if name else key)
    elif first != second:
        raise ConfigError(
            f"`folder={folder}` holds a run with `{name}={first}`, but now `{name}={second}`. "
            "Use the same settings to go on with it, or another folder."
        )


class _Loop:
    """One run: who the present student is, what was measured, what each round came to."""

    def __init__(self, config: LoopConfig, stages: Stages, say: Say) -> None:
        self.config, self.stages, self.say = config, stages, say
        self.base = self.student = Student(config.model)
        self.students: dict[str, tuple[Student, Path, dict[str, Any]]] = {
            "base": (self.base, config.folder / "base.json", {})
        }
        self.rounds: list[dict[str, Any]] = []
        self.candidates: dict[int, Student] = {}

    def run(self) -> Path:
        ended, stores, in_noise = "", list[Path](), 0
        present = self._measure(self.base, self.config.folder / "dev.json")
        for number in range(1, self.config.rounds + 1):
            folder = self.config.folder / f"round{number}"
            stores.append(self.stages.collect(self.config.collect, self.student, folder / "traces", number))
            candidate = self.candidates[number] = self._train(folder, tuple(stores), number)
            measured = self._measure(candidate, folder / "dev.json")
            decision = self._gate(folder, present, measured)
            if decision is None or decision.promoted:
                self.student, present = candidate, measured
            self._note(folder, number, candidate, decision, measured)
            if self.student is candidate:
                self._serve(folder)
            in_noise = in_noise + 1 if decision is not None and decision.in_noise else 0
            if in_noise > self.config.patience:
                ended = f"The gain of round {number} is inside the noise, so the loop ends here."
                self.say(f"loop: {ended}")
                break
        self._report(ended or f"All {self.config.rounds} rounds are done.")
        return self.config.folder

    def _train(self, folder: Path, stores: tuple[Path, ...], number: int) -> Student:
        """Both stages of a round; remembers every student that the test problems will be put to."""
        config, stages = self.config, self.stages
        label = "" if config.rounds == 1 else f" (round {number})"
        if config.collect_again is not None:
            first = self._train_first(folder / "first", stores)
            again = folder / "traces_again"
            stores = (*stores, stages.collect(config.collect_again, first, again, number))
        rows = self._build_rows(folder / "rows", stores)
        if config.control:
            plain = self._train_control(folder, stores, rows)
            self.students[f"plain SFT{label}"] = (plain, folder / "plain.json", PLAIN)
        hsft = self._train_sft(rows, folder / "sft")
        if config.evaluate_stage1:
            self.students[f"HSFT{label}"] = (hsft, folder / "hsft.json", {})
        store = stages.collect(config.collect_pairs, hsft, folder / "pair_traces", number)
        changes = {"kind": "preference", "tokenizer": hsft.model}
        pairs = stages.build(config.pairs, folder / "pairs", (store,), **changes)
        start = {"model": hsft.model, "adapter": hsft.adapter, "data": pairs, "output": folder / "dpo"}
        beside = {"replay": rows} if config.replay else {}
        if config.learn_chosen:
            units = {**changes, "pair_scope": "unit"}
            beside["learn_chosen"] = stages.build(config.pairs, folder / "units", (store,), **units)
        student = stages.train(config.dpo.model_copy(update={**start, **beside}))
        self.students[f"HSFT + DPO{label}"] = (student, folder / "dpo.json", {})
        return student

    def _train_first(self, folder: Path, stores: tuple[Path, ...]) -> Student:
        """A student that writes as stage 1 teaches, so that its errors in that form can be collected."""
        return self._train_sft(self._build_rows(folder / "rows", stores), folder / "sft")

    def _build_rows(self, output: Path, stores: tuple[Path, ...]) -> Path:
        return self.stages.build(self.config.rows, output, stores, kind="sft", tokenizer=self.config.model)

    def _train_sft(self, rows: Path, output: Path) -> Student:
        changes = {"model": self.config.model, "data": rows, "output": output}
        return self.stages.train(self.config.sft.model_copy(update=changes))

    def _train_control(self, folder: Path, stores: tuple[Path, ...], hierarchical: Path) -> Student:
        """The same problems as plain solutions, trained on as many tokens as the hierarchical rows have."""
        config = self.config
        changes = {"kind": "sft", "tokenizer": config.model, "style": "plain", "max_tokens": None}
        rows = self.stages.build(config.rows, folder / "plain_rows", stores, **changes)
        tokens = [load_manifest(path).tokens for path in (hierarchical, rows)]
        epochs = matched_epochs(config.sft.num_train_epochs, *tokens)
        where = {"model": config.model, "data": rows, "output": folder / "plain_sft"}
        return self.stages.train(config.sft.model_copy(update={**where, "num_train_epochs": epochs}))

    def _measure(self, student: Student, output: Path) -> Path | None:
        """The student on the development problems, for the gate; None where there is no gate."""
        gate = self.config.gate
        if gate is None:
            return None
        arms = tuple(dict.fromkeys(("single", "review", "teacher", "asked", gate.arm)))
        where = {"problems": gate.problems, "n": gate.n, "seed": gate.seed}
        return self.stages.evaluate(student, output, arms=arms, **where)

    def _gate(self, folder: Path, present: Path | None, measured: Path | None) -> Decision | None:
        if self.config.gate is None or present is None or measured is None:
            return None
        decision = decide(read_json(present), read_json(measured), self.config.gate)
        write_json(folder / "gate.json", decision.model_dump(mode="json"))
        self.say(f"loop: {folder.name}: {decision.reason}")
        return decision

    def _serve(self, folder: Path) -> None:
        """Once a round: a run that goes on must not put a former student in the place of a later one."""
        serve, record = self.config.serve, folder / "serve.json"
        if serve is None:
            return
        before = read_json(record) if record.exists() else {}
        same = before and (before.get("name"), before.get("url")) == (serve.name, serve.url)
        if same and (before["loaded"] or serve.url is None):
            self.say(f"loop: {record} is there already")
            return
        where = self.student.adapter or Path(self.student.model)
        served = serve_adapter(where, self.config.model, serve, say=self.say)
        write_json(record, served.model_dump(mode="json"))

    def _note(
        self, folder: Path, number: int, student: Student, decision: Decision | None, measured: Path | None
    ) -> None:
        if measured is None:  # without a gate, the test problems give the record at the end
            return
        if not self.rounds:
            first = "base.json" if self.config.gate is None else "dev.json"
            self.rounds.append(round_record(0, self.base, self.config.folder / first))
        self.rounds.append(round_record(number, student, measured, folder=folder, decision=decision))
        plot_rounds(self.rounds, folder / "progress.png")
        self._write_report("")

    def _report(self, ended: str) -> None:
        """Puts the test problems to every student and writes what came of the loop."""
        for student, path, changes in self.students.values():
            self.stages.evaluate(student, path, **changes)
        for number, student in self.candidates.items() if self.config.gate is None else ():
            folder = self.config.folder / f"round{number}"
            self._note(folder, number, student, None, folder / "dpo.json")
        self._write_report(ended)
        for name, (_, path, _) in self.students.items():
            arms = read_json(path)["arms"]
            shares = (f"{arm} {each['accuracy']['value']:.1%}" for arm, each in arms.items())
            self.say(f"loop: {name}: {', '.join(shares)}")

    def _write_report(self, ended: str) -> None:
        folder = self.config.folder
        reports = {name: read_json(path) for name, (_, path, _) in self.students.items() if path.exists()}
        against = {
            name: compare_evaluations(reports["base"], report)
            for name, report in reports.items()
            if name != "base"
        }
        files = {name: str(self.students[name][1].relative_to(folder)) for name in reports}
        content = {
            "arms": {name: report["arms"] for name, report in reports.items()},
            "against_base": against, "files": files, "rounds": self.rounds,
            "student": self.student.folder, "ended": ended,
        }  # fmt: skip
        write_json(folder / REPORT_FILE, content)


def main() -> int:
    return run_main(LoopConfig, run_loop, program="training.loop")


if __name__ == "__main__":
    sys.exit(main())
