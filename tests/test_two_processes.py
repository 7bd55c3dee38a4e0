"""Two processes against one at the same global batch: the same rows in the same steps, the same loss curve.

Without `--cpu`: with it, `accelerate launch` starts one process, whatever `--num_processes` says.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.training_runs import finish, largest_difference, losses, pair_rows, run, settings, sft_rows, start
from training.order import GlobalOrder, LengthOrder

PROFILES = Path(__file__).parent.parent / "training" / "accelerate"
LENGTHS = [5, 90, 14, 33, 2, 71, 8, 46, 27, 60, 11, 3, 52, 19, 38, 80]


def launcher(profile: str) -> list[str]:
    file = str(PROFILES / f"{profile}.yaml")
    words = ["--config_file", file, "--num_processes", "2", "--main_process_port", "0"]
    return ["-m", "accelerate.commands.launch", *words]


def order(per_device: int, accumulation: int, world: int, *, epoch: float = 0.0) -> list[list[int]]:
    """The rows of each optimiser step, from all processes, as Accelerate shares the batches out."""
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    trainer = GlobalOrder()
    trainer.train_dataset = FakeRows({"length": LENGTHS})
    trainer.state = SimpleNamespace(epoch=epoch)
    trainer.args = SimpleNamespace(
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        world_size=world,
        seed=7,
        data_seed=None,
    )
    batches = BatchSampler(trainer._get_train_sampler(), per_device, drop_last=False)
    shares = [list(BatchSamplerShard(batches, world, rank)) for rank in range(world)]
    micro = [[row for share in shares for row in share[i]] for i in range(len(shares[0]))]
    return [[*chain(*micro[i : i + accumulation])] for i in range(0, len(micro), accumulation)]


class FakeRows(dict[str, list[int]]):
    column_names = ("length",)


def test_the_order_depends_on_the_global_batch_only() -> None:
    one = order(4, 2, 1)
    assert [len(step) for step in one] == [8, 8]
    assert sorted(chain(*one)) == list(range(16))
    assert order(4, 1, 2) == one  # process 0 has rows 0 to 3 of a step, process 1 rows 4 to 7
    assert order(2, 2, 2) == order(1, 2, 4) == order(2, 1, 4) == order(8, 1, 1) == one
    assert order(4, 2, 1, epoch=1.0) != one
    assert order(4, 2, 1, epoch=1.5) == order(4, 2, 1, epoch=1.0)  # resumed in mid-epoch


def test_rows_of_similar_length_share_a_step() -> None:
    """Sixteen rows in steps of one make groups of 16 / (1 * 4) = 4, sorted but for the first, and the
    longest row of all comes first, so that a lack of memory shows at once."""
    found = [LENGTHS[i] for i in LengthOrder(LENGTHS, 1, 0, lambda: 0)]
    assert found[0] == 90
    for group in (found[i + 1 : i + 4] for i in range(0, 16, 4)):
        assert group == sorted(group, reverse=True)
    assert found != sorted(LENGTHS, reverse=True)


@pytest.mark.parametrize("file", sorted(PROFILES.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_profile_is_one_that_accelerate_reads(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    kind = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}[file.stem]
    assert config.distributed_type.value == kind
    assert not config.use_cpu
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
        # What is saved must load into one process, for use and for the next stage.
        assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == int(file.stem[-1])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("stage", "profile", "full"),
    [("sft", "ddp", False), ("dpo", "ddp", False), ("sft", "fsdp2", False), ("dpo", "fsdp2", True)],
    ids=["sft ddp", "dpo ddp", "sft fsdp2", "dpo fsdp2 full"],
)
def test_two_processes_train_as_one(
    model: Path, tmp_path: Path, stage: str, profile: str, full: bool
) -> None:
    """One process takes a step in two halves, two processes take one half each. Stage 2 adds the losses
    `sigmoid` and `sft`; the latter is a mean over each half's tokens, and the halves are the same. Under
    FSDP2 each process holds a half of every weight that is trained (`tests.sharded`)."""
    data = (sft_rows if stage == "sft" else pair_rows)(tmp_path / "rows")
    changes: dict[str, Any] = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "full": full}
    if stage == "dpo" and profile == "ddp":  # TRL's frozen copy of the adapter has to stay out of DDP's way
        first, _ = run("sft", settings("sft", model, sft_rows(tmp_path / "first"), tmp_path / "stage1"))
        changes["adapter"] = str(first)
    values = settings(stage, model, data, tmp_path / "two", **changes)
    printed = finish(start(stage, values, *launcher(profile), sharded=profile == "fsdp2"))
    if profile == "fsdp2":
        kinds = [line for line in printed.splitlines() if line.startswith("WEIGHTS")]
        assert len(kinds) == 6  # two processes, three steps
        assert all(line.split()[1] == "DTensor" for line in kinds)  # the head may be whole for a while
    folder, _ = run(stage, {**values, "output": str(tmp_path / "one"), "gradient_accumulation_steps": 2})
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(folder), rel=1e-4)
    assert len(losses(folder)) == 3
    assert largest_difference(tmp_path / "two", folder) < 1e-4
    lines = [line for line in printed.splitlines() if "rows, half of them" in line]
    assert len(lines) == 1  # the main process alone speaks
