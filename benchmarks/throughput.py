"""Tokens a second of both stages against stock TRL on the same model, rows and batch, and their losses.

    python benchmarks/throughput.py --out benchmarks/throughput.json

Rows are made with the packaged student and teacher; all weights are trained, in float32 on the CPU. Each
variant runs in a process of its own, one after another, several times over; the clock runs from the loaded
libraries to the saved model: tokenising, reference log-probabilities and saving count. Variants:

- ``sft``: ``run_sft``; ``trl sft``: ``SFTTrainer`` on the folder as it is, without gradient checkpointing;
- ``dpo``: ``run_dpo``; ``trl dpo``: ``DPOTrainer`` likewise; ``trl dpo, defaults``: with TRL's own defaults,
  which hold gradient checkpointing on and ask the reference at every step.

Afterwards each variant's model is put to the same rows: mean loss by a plain forward pass, without TRL.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from training.config import CollectionConfig, DatasetConfig, DpoConfig, SftConfig
from training.data import load_rows, run_data
from training.provenance import provenance
from training.sources import model_path

VARIANTS = ("sft", "trl sft", "dpo", "trl dpo", "trl dpo, defaults")
BATCH = 8
RATES = {"sft": 2e-4, "dpo": 2e-5}


def make_rows(work: Path, problems: int) -> None:
    """Collects with the packaged student; whole-answer pairs, whose ids are the same for stock TRL."""
    from training.collect import run_collect

    run_collect(
        CollectionConfig(store=work / "traces", n=problems, samples=2, temperature=0.8, student_review=True)
    )
    stores = (work / "traces",)
    run_data(DatasetConfig(kind="sft", store=stores, output=work / "sft"))
    run_data(DatasetConfig(kind="preference", pair_format="whole_answer", store=stores, output=work / "dpo"))


def run_worker(variant: str, work: Path, epochs: int) -> dict[str, Any]:
    """Trains one variant and measures it."""
    import datasets
    import trl
    import trl.trainer.dpo_trainer
    import trl.trainer.sft_trainer

    from training import run, student, tokens  # noqa: F401  (imported before the clock starts)
    from training.dpo import run_dpo
    from training.sft import run_sft

    stage = "sft" if "sft" in variant else "dpo"
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(dir=work) as output:
        started = time.monotonic()
        if variant == stage:
            settings: dict[str, Any] = {
                "full": True,
                "device": "cpu",
                "max_length": None,
                "data": work / stage,
            }
            settings |= {"learning_rate": RATES[stage], "num_train_epochs": epochs}
            settings |= {"per_device_train_batch_size": BATCH, "output": Path(output), "warmup_ratio": 0.0}
            if stage == "sft":
                run_sft(SftConfig(**settings))
            else:
                run_dpo(DpoConfig(**settings, loss_type=("sigmoid",), loss_weights=(1.0,)))
        else:
            rows = load_rows(work / stage)[0]
            train_stock(trl, stage, rows, output, epochs, defaults="defaults" in variant)
        seconds = time.monotonic() - started
        return {"seconds": seconds, "loss": plain_loss(stage, work / stage, output)}


def train_stock(
    trl: Any,
    stage: str,
    rows: Any,
    output: str,
    epochs: int,
    *,
    defaults: bool = False,
    **more: Any,
) -> list[dict[str, Any]]:
    """Stock TRL on the folder's rows; returns what it logged."""
    from transformers import AutoTokenizer

    path = model_path("sandbox")
    arguments: dict[str, Any] = {
        "output_dir": output, "learning_rate": RATES[stage], "num_train_epochs": epochs, "seed": 0,
        "per_device_train_batch_size": BATCH, "max_length": None, "use_cpu": True, "bf16": False,
        "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "lr_scheduler_type": "cosine",
        **more,
    }  # fmt: skip
    if not defaults:
        arguments["gradient_checkpointing"] = False
    kind, trainer = (trl.SFTConfig, trl.SFTTrainer) if stage == "sft" else (trl.DPOConfig, trl.DPOTrainer)
    if stage == "dpo":
        arguments["beta"] = DpoConfig().beta
    columns = [name for name in ("prompt", "completion", "chosen", "rejected") if name in rows.column_names]
    stock = trainer(
        model=path,
        args=kind(**arguments),
        train_dataset=rows.select_columns(columns),
        processing_class=AutoTokenizer.from_pretrained(path),
    )
    stock.train()
    stock.save_model(output)
    history: list[dict[str, Any]] = stock.state.log_history
    return history


def plain_loss(stage: str, data: Path, output: str) -> float:
    """Mean loss over the rows: nats per completion token, or the DPO loss against the packaged student."""
    import torch
    from torch.nn.functional import logsigmoid
    from transformers import AutoModelForCausalLM

    from training.student import load_tokenizer
    from training.tokens import tokenize_completion, tokenize_pair

    tokenizer = load_tokenizer(model_path("sandbox"))
    model, base = (
        AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32) for p in (output, model_path("sandbox"))
    )
    rows = load_rows(data)[0]
    rows = rows.select(range(0, len(rows), max(1, len(rows) // 200)))

    def logp(which: Any, given: list[int], ids: list[int]) -> Any:
        with torch.no_grad():
            logits = which(torch.tensor([given + ids])).logits[0, len(given) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum()

    losses, count = [], 0
    for row in rows:
        if stage == "sft":
            one = tokenize_completion(row, tokenizer)
            answer = [i for i in one["labels"] if i != -100]
            losses.append(-logp(model, one["input_ids"][: -len(answer)], answer))
            count += len(answer)
        else:
            pair = tokenize_pair(row, tokenizer)
            sides = [(pair["prompt_ids"], pair[f"{side}_ids"]) for side in ("chosen", "rejected")]
            chosen, rejected = (logp(model, *side) - logp(base, *side) for side in sides)
            losses.append(-logsigmoid(DpoConfig().beta * (chosen - rejected)))
            count += 1
    return float(sum(losses)) / count


def count_tokens(work: Path) -> dict[str, int]:
    """Tokens of one pass over the rows, padding not counted; a pair counts its prompt twice."""
    from training.student import load_tokenizer
    from training.tokens import tokenize_completion, tokenize_pair

    tokenizer = load_tokenizer(model_path("sandbox"))
    pairs = [tokenize_pair(row, tokenizer) for row in load_rows(work / "dpo")[0]]
    return {
        "sft": sum(
            len(tokenize_completion(row, tokenizer)["input_ids"]) for row in load_rows(work / "sft")[0]
        ),
        "dpo": sum(2 * len(p["prompt_ids"]) + len(p["chosen_ids"]) + len(p["rejected_ids"]) for p in pairs),
    }


def measure(work: Path, repeats: int, epochs: int) -> dict[str, Any]:
    """Every variant ``repeats`` times, in turn, each in a fresh process."""
    runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for number in range(repeats):
        for variant in VARIANTS if number % 2 == 0 else reversed(VARIANTS):
            command = [sys.executable, __file__, "--worker", variant, "--work", str(work)]
            command += ["--epochs", str(epochs)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            runs[variant].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{variant}: {runs[variant][-1]}", flush=True)
    tokens = count_tokens(work)
    table = {
        variant: {
            "tokens_per_second": tokens["sft" if "sft" in variant else "dpo"]
            * epochs
            / statistics.median(one["seconds"] for one in found),
            "seconds": [round(one["seconds"], 2) for one in found],
            "loss": found[0]["loss"],
        }
        for variant, found in runs.items()
    }
    pairs = [("sft", "trl sft"), ("dpo", "trl dpo"), ("dpo", "trl dpo, defaults")]
    ratios = {
        f"{ours} / {theirs}": [
            round(b["seconds"] / a["seconds"], 3) for a, b in zip(runs[ours], runs[theirs], strict=True)
        ]
        for ours, theirs in pairs
    }
    return {"tokens": tokens, "variants": table, "ratios": ratios}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/throughput.json"))
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=VARIANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(run_worker(given.worker, given.work, given.epochs)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        if not (work / "dpo").exists():
            make_rows(work, given.problems)
        result = measure(work, given.repeats, given.epochs)
    result |= {"batch": BATCH, "epochs": given.epochs, "seed": 0, **provenance()}
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, ratios in result["ratios"].items():
        print(f"{name}: {statistics.median(ratios):.2f} times as fast {ratios}")


if __name__ == "__main__":
    main()
