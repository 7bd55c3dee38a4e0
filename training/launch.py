"""A training stage in processes of its own, under a profile of Accelerate: several GPUs, or several CPUs.

The stage's resolved settings are written beside its output and read by ``python -m training.sft`` or
``training.dpo``, so that the same stage can be started again by hand with the command that is printed.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from supercorrect_agent.errors import ConfigError, ModelError
from training.config import TrainConfig
from training.folders import replace_text
from training.progress import Say

PROFILES = Path(__file__).parent / "accelerate"


def profile_path(name: str) -> Path:
    """The file of a profile: one of ``training/accelerate`` by name, or any other by its path.

    Raises:
        ConfigError: There is no such profile.
    """
    path = PROFILES / f"{name}.yaml"
    if path.is_file():
        return path
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(sorted(each.stem for each in PROFILES.glob("*.yaml")))
    raise ConfigError(f"`accelerate={name}` is not a profile. Choose one of {known}, or pass a file.")


def launch_command(stage: TrainConfig, file: Path, profile: Path, processes: int | None) -> list[str]:
    """The command that trains ``stage`` from its settings in ``file``, which also say whether on the CPU."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(profile)]
    if processes is not None:
        command += ["--num_processes", str(processes)]
    # Never `--cpu`, with which Accelerate starts one process only: the stage's own `device` says it.
    return [*command, "-m", f"training.{stage.section}", "--config", str(file)]


def launch_training(
    stage: TrainConfig, profile: Path, processes: int | None, *, say: Say, keep: tuple[int, ...] = ()
) -> Path:
    """Trains a stage under a profile and waits for it.

    Args:
        stage: The settings of `training.sft` or `training.dpo`.
        profile: A file of ``accelerate config``.
        processes: How many; None leaves it to the profile.
        say: Takes the command as one line; the processes print their own progress.
        keep: File descriptors that the processes hold open too, such as a lock.

    Returns:
        The stage's output folder.

    Raises:
        ModelError: The processes failed; what they printed says why.
    """
    file = stage.output.with_name(f"{stage.output.name}.config.yaml")
    replace_text(file, stage.model_dump_json(indent=2) + "\n")  # JSON is YAML
    command = launch_command(stage, file, profile, processes)
    say(f"{stage.section}: {shlex.join(command)}")
    ended = subprocess.run(command, check=False, pass_fds=keep)
    if ended.returncode != 0:
        raise ModelError(
            f"`training.{stage.section}` under {profile.name} ended with code {ended.returncode}. "
            "The lines above say why; the same command continues from its last checkpoint."
        )
    return stage.output
