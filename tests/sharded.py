"""A training stage with sharded weights on the CPU: ``-m tests.sharded sft --config FILE`` under a launcher.

Accelerate shards on accelerators only: on a CPU it takes an FSDP profile for plain data parallelism. Its code
for FSDP2 and PyTorch's run on a CPU all the same (gloo); here the choice alone is put right. Each process
prints the kinds of its weights, so that a test can see that there are shards.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


def shard_on_the_cpu() -> None:
    """Makes Accelerate heed an FSDP profile whatever the device is."""
    start = AcceleratorState.__init__

    def start_sharded(self: Any, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
        start(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None:
            self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = start_sharded


def tell_the_kinds_of_weights() -> None:
    from training.order import GlobalOrder

    def training_step(self: Any, model: Any, *args: Any, **options: Any) -> Any:
        trained = (weight for weight in model.parameters() if weight.requires_grad)
        kinds = sorted({type(weight).__name__ for weight in trained})
        sys.stdout.write(f"WEIGHTS {' '.join(kinds)}\n")  # in one piece: the processes share the pipe
        return super(GlobalOrder, self).training_step(model, *args, **options)

    GlobalOrder.training_step = training_step  # type: ignore[attr-defined]


if __name__ == "__main__":
    stage = sys.argv.pop(1)
    shard_on_the_cpu()
    tell_the_kinds_of_weights()
    sys.exit(import_module(f"training.{stage}").main())
