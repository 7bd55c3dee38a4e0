"""A run that is killed goes on as if nothing had happened; a folder with another run is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError
from tests.training_runs import largest_difference, losses, pair_rows, run, settings, sft_rows, start
from training.config import SftConfig
from training.resume import STARTED_FILE, claim_folder, describe_run, is_whole, last_checkpoint

# The same kernels on the same machine: a resumed run repeats the other one's numbers, almost to the bit.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage1")
    rows = sft_rows(folder / "rows")
    return run("sft", settings("sft", model, rows, folder / "adapter", num_train_epochs=4))[0]


def write_checkpoint(folder: Path, step: int) -> Path:
    import torch
    from safetensors.torch import save_file

    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    save_file({"weight": torch.zeros(64)}, made / "model.safetensors")
    torch.save({"state": torch.zeros(64)}, made / "optimizer.pt")
    torch.save({"cpu": torch.zeros(64)}, made / "rng_state.pth")
    (made / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return made


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "trainer_state.json").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
        *(
            lambda folder, name=name: truncate(folder / name)
            for name in ("trainer_state.json", "model.safetensors", "optimizer.pt", "rng_state.pth")
        ),
    ],
    ids=["no state", "no weights", "state", "weights", "optimizer", "random numbers"],
)
def test_a_torn_checkpoint_is_removed_and_the_one_before_it_used(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    whole, torn = write_checkpoint(tmp_path, 9), write_checkpoint(tmp_path, 10)
    assert last_checkpoint(tmp_path, clean=False) == torn  # by number: 10 comes after 9
    damage(torn)
    assert not is_whole(torn)
    assert last_checkpoint(tmp_path, clean=False) == whole
    assert torn.exists()
    assert last_checkpoint(tmp_path, clean=True) == whole
    assert not torn.exists()
    assert last_checkpoint(tmp_path / "nowhere", clean=True) is None


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    config = SftConfig(learning_rate=1e-3)
    first = describe_run(config, data_hash="a", global_batch=16)
    assert not claim_folder(tmp_path, first, write=True)
    # How the batch is shared out, where the rows lie and how often it saves make no other run.
    moved = config.model_copy(update={"data": Path("x"), "save_steps": 3, "per_device_train_batch_size": 8})
    assert not claim_folder(tmp_path, describe_run(moved, data_hash="a", global_batch=16), write=True)
    (tmp_path / "checkpoint-5").mkdir()
    other = config.model_copy(update={"learning_rate": 2e-3, "seed": 1})
    for run_, told in [
        (describe_run(other, data_hash="a", global_batch=16), "`learning_rate` was 0.001 and is 0.002"),
        (describe_run(other, data_hash="a", global_batch=16), "`seed` was 0 and is 1"),
        (describe_run(config, data_hash="b", global_batch=16), "`data hash` was a and is b"),
        (describe_run(config, data_hash="a", global_batch=32), "`global batch` was 16 and is 32"),
    ]:
        with pytest.raises(ConfigError, match="holds another run") as error:
            claim_folder(tmp_path, run_, write=True)
        assert told in str(error.value)
        assert "\n" not in str(error.value)
    (tmp_path / "run.json").write_text("{}")
    assert claim_folder(tmp_path, first, write=True)


def test_a_start_that_came_to_nothing_leaves_the_folder_free(tmp_path: Path) -> None:
    """A misspelt setting is refused after the folder was claimed; the corrected one must not be."""
    for rate in (1e-3, 2e-3):
        run_ = describe_run(SftConfig(learning_rate=rate), data_hash="a", global_batch=16)
        assert not claim_folder(tmp_path, run_, write=True)
        assert json.loads((tmp_path / STARTED_FILE).read_text())["learning_rate"] == rate


def test_another_adapter_under_the_same_path_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "adapter_model.safetensors"
    hashes = []
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        run_ = describe_run(SftConfig(adapter=tmp_path), data_hash="a", global_batch=16)
        hashes.append(run_["content of adapter"])
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("left", ["run.json", "checkpoint-5/trainer_state.json"])
def test_a_run_that_left_no_record_of_its_start_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_text("{}")
    with pytest.raises(ConfigError, match=f"holds a run without `{STARTED_FILE}`"):
        claim_folder(tmp_path, {"seed": 0}, write=True)


@pytest.mark.integration
def test_a_finished_run_is_not_run_again_and_another_one_is_refused(model: Path, tmp_path: Path) -> None:
    values = settings("sft", model, sft_rows(tmp_path / "rows"), tmp_path / "out", max_steps=1)
    run("sft", values)
    before = (tmp_path / "out" / "adapter_model.safetensors").stat().st_mtime_ns
    _, said = run("sft", values)
    assert said == [f"sft: {tmp_path / 'out'} is finished already"]
    assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="`max_steps` was 1 and is 2"):
        run("sft", {**values, "max_steps": 2})


def kill_when(process: subprocess.Popen[str], appears: Path) -> None:
    """Ends a process without warning as soon as a folder is there: its files may be half written."""
    while not appears.exists():
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(process.stdout.read() if process.stdout else "")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


@pytest.mark.integration
@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_a_killed_run_ends_in_the_weights_of_an_uninterrupted_one(
    model: Path, adapter: Path, tmp_path: Path, stage: str, full: bool
) -> None:
    """Killed in mid-epoch (a checkpoint has three steps, an epoch two), the second one perhaps torn."""
    data = (sft_rows if stage == "sft" else pair_rows)(tmp_path / "rows")
    changes: dict[str, Any] = {"full": full, "save_steps": 3, "max_steps": 11}
    if stage == "dpo" and not full:
        changes["adapter"] = adapter
    values = settings(stage, model, data, tmp_path / "killed", **changes)
    kill_when(start(stage, values), tmp_path / "killed" / "checkpoint-6")
    assert not (tmp_path / "killed" / "run.json").exists()
    resumed, said = run(stage, {**values, "adapter": str(adapter)} if "adapter" in changes else values)
    assert any("goes on from" in line for line in said)
    whole, _ = run(stage, {**values, "adapter": values.get("adapter"), "output": str(tmp_path / "whole")})
    assert len(losses(whole)) == 11
    # In stage 2 every loss depends on the reference: were it the checkpoint's policy, the losses would jump.
    assert losses(resumed) == pytest.approx(losses(whole), rel=TOLERANCE, abs=TOLERANCE)
    assert largest_difference(resumed, whole) <= TOLERANCE


@pytest.mark.integration
@pytest.mark.parametrize("precompute", [True, False])
def test_the_reference_after_a_restart_is_still_the_adapter(
    model: Path, adapter: Path, tmp_path: Path, precompute: bool
) -> None:
    """By hand: the reward of a step is beta times what the policy gained over A, not over the checkpoint."""
    changes = {"adapter": str(adapter), "save_steps": 1, "max_steps": 4, "loss_type": "sigmoid"}
    changes |= {"precompute_ref_log_probs": precompute, "per_device_train_batch_size": 8}
    values = settings("dpo", model, pair_rows(tmp_path / "rows"), tmp_path / "out", **changes)
    whole, _ = run("dpo", values)
    margins, chosen = losses(whole, "rewards/margins"), losses(whole, "logps/chosen")
    (whole / "run.json").unlink()
    shutil.rmtree(whole / "checkpoint-4")
    resumed, _ = run("dpo", values)
    assert losses(resumed, "rewards/margins") == pytest.approx(margins, abs=1e-5)
    # All rows are in every step, so the reward is 0.4 (log p - log p_A) with the first step's log p_A.
    rewards = [0.4 * (logp - chosen[0]) for logp in losses(resumed, "logps/chosen")]
    assert losses(resumed, "rewards/chosen") == pytest.approx(rewards, abs=1e-3)
    assert rewards[-1] != pytest.approx(rewards[-2], abs=1e-3)
