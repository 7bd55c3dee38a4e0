"""Loss curves of both stages against stock TRL, step by step: the same student, rows, order and settings.

    python -m benchmarks.parity --out benchmarks/parity.json

The packaged student, all weights, float32 on the CPU, learning rate falling from the first step. The rows
come in one fixed order, and the pairs are whole answers, for those are the rows that stock TRL tokenises as
this project does. The reference is the packaged student on both sides; ours is pre-computed, TRL's is not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.throughput import BATCH, RATES, make_rows, train_stock
from training.config import DpoConfig, SftConfig
from training.data import load_rows
from training.provenance import provenance
from training.sources import model_path

STEPWISE = {"train_sampling_strategy": "sequential", "logging_steps": 1}


def our_losses(stage: str, data: Path, output: Path) -> list[float]:
    """One epoch of ``run_sft`` or ``run_dpo``, with the rows in the order in which they are kept."""
    from training.dpo import run_dpo
    from training.sft import run_sft

    settings: dict[str, Any] = {"full": True, "device": "cpu", "max_length": None, "warmup_ratio": 0.0}
    settings |= {"learning_rate": RATES[stage], "per_device_train_batch_size": BATCH, "trl": STEPWISE}
    settings |= {"data": data, "output": output}
    if stage == "sft":
        run_sft(SftConfig(**settings))
    else:
        run_dpo(DpoConfig(**settings, loss_type=("sigmoid",), loss_weights=(1.0,)))
    log = [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [entry["loss"] for entry in log if "loss" in entry]


def trl_losses(stage: str, data: Path, output: Path) -> list[float]:
    """One epoch of stock TRL on the rows as they are, longest first, as ours are kept."""
    import numpy
    import trl

    from training.student import load_tokenizer
    from training.tokens import tokenize_completion, tokenize_pair, tokenize_rows

    rows = load_rows(data)[0]
    tokenize = tokenize_completion if stage == "sft" else tokenize_pair
    tokenizer = load_tokenizer(model_path("sandbox"))
    lengths = [tokenize_rows([row], tokenizer, tokenize, None)[0][0]["length"] for row in rows]
    longest_first = numpy.argsort(-numpy.array(lengths), kind="stable")
    history = train_stock(trl, stage, rows.select(longest_first), str(output), 1, **STEPWISE)
    return [entry["loss"] for entry in history if "loss" in entry]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/parity.json"))
    parser.add_argument("--problems", type=int, default=150)
    given = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_rows(work, given.problems)
        for stage in ("sft", "dpo"):
            ours = our_losses(stage, work / stage, work / f"{stage}_ours")
            theirs = trl_losses(stage, work / stage, work / f"{stage}_trl")
            apart = max(abs(one - two) for one, two in zip(ours, theirs, strict=True))
            result[stage] = {"steps": len(ours), "largest_difference": apart, "ours": ours, "trl": theirs}
            print(
                f"{stage}: {len(ours)} steps, loss {ours[0]:.4f} to {ours[-1]:.4f}, at most {apart:.1e} apart"
            )
    result |= {"batch": BATCH, "seed": 0, **provenance()}
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
