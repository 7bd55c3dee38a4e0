"""The model card of a run: ``README.md`` with the Hub's metadata, written from what the run recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supercorrect_agent.errors import ModelError
from training.folders import replace_text
from training.plots import PICTURE
from training.serve import max_lora_rank
from training.sources import model_path

_CITATION = """```bibtex
@article{yang2024supercorrect,
  title   = {SuperCorrect: Advancing Small LLM Reasoning with Thought Template Distillation and
             Self-Correction},
  author  = {Yang, Ling and Yu, Zhaochen and Zhang, Tianjun and Xu, Minkai and Gonzalez, Joseph E. and
             Cui, Bin and Yan, Shuicheng},
  journal = {arXiv preprint arXiv:2410.09008},
  year    = {2024}
}
```"""
_METHODS = {
    "sft": "stage 1, hierarchical-thought supervised fine-tuning (section 4.1, eq. 5): the loss falls on "
    "completions only, solutions in the hierarchical layout and correction traces",
    "dpo": "stage 2, cross-model DPO (section 4.2, eq. 8): at the first wrong step of the student's own "
    "solution the teacher's words are preferred to the student's, after the same prefix",
}
_SETTINGS = (
    "learning_rate", "lr_scheduler_type", "warmup_ratio", "num_train_epochs", "max_steps", "max_length",
    "packing", "beta", "loss_type", "loss_weights", "lora_r", "lora_alpha", "lora_dropout",
    "lora_target_modules", "load_in_4bit", "dtype", "seed",
)  # fmt: skip
_RESULTS = {
    "train_loss": "mean training loss",
    "eval_loss": "loss on held-out rows, last",
    "rewards/margins": "reward margin, last logged",
    "rewards/accuracies": "pairs told apart, last logged",
}


def write_card(output: Path) -> Path:
    """Writes the model card of a finished run; needs no network.

    Args:
        output: A folder that a training stage has written, ``run.json`` included.

    Returns:
        The card's path.
    """
    from huggingface_hub import ModelCard, ModelCardData

    run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    stage = "dpo" if "beta" in run["config"] else "sft"
    adapter = (output / "adapter_config.json").is_file()
    base = _published(run["config"]["model"])
    data = ModelCardData(
        base_model=base,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["supercorrect", "trl", stage, *(["lora"] if adapter else [])],
    )
    parts = [
        f"# {output.resolve().name}", _summary(run, stage, adapter), _use(run, output, adapter),
        _prompts(run), _data(run), _settings(run), _results(run, output), _provenance(run),
        f"## Citation\n\nThe method:\n\n{_CITATION}",
    ]  # fmt: skip
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
    replace_text(output / "README.md", str(card))
    return output / "README.md"


def _published(model: str) -> str | None:
    """The base's name on the Hub; a folder has none that others could follow."""
    path = model_path(model)
    local = Path(path).exists() or path.count("/") > 1 or path.startswith((".", "/", "~"))
    return None if local else path


def _base(model: str) -> str:
    """How the base is called in the card: never by a path of this machine."""
    if model.startswith("sandbox"):
        return "the sandbox student of supercorrect-agent"
    return f"`{_published(model) or Path(model_path(model)).name}`"


def _summary(run: Mapping[str, Any], stage: str, adapter: bool) -> str:
    config = run["config"]
    start = f" with the adapter `{Path(config['adapter']).name}`" if config.get("adapter") else ""
    kind = "A LoRA adapter for" if adapter else "A full fine-tune of"
    return (
        f"{kind} {_base(config['model'])}, trained from it{start} with the method of "
        "[SuperCorrect](https://arxiv.org/abs/2410.09008) as `supercorrect-agent` implements it: "
        f"{_METHODS[stage]}. The student solves in numbered steps with a final answer, reviews a solution "
        "and corrects its first wrong step."
    )


def _use(run: Mapping[str, Any], output: Path, adapter: bool) -> str:
    base = _published(run["config"]["model"]) or "PATH_OF_THE_BASE"
    if not adapter:
        load = 'model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER", dtype="auto")'
        serve = "vllm serve THIS_FOLDER"
    else:
        load = (
            f'base = AutoModelForCausalLM.from_pretrained("{base}", dtype="auto")\n'
            'model = PeftModel.from_pretrained(base, "THIS_FOLDER")'
        )
        try:
            rank = max_lora_rank(output)
            serve = (
                f"vllm serve {base} --enable-lora --max-lora-rank {rank} "
                "--lora-modules supercorrect=THIS_FOLDER"
            )
        except ModelError as error:
            serve = f"# {error}"
    where = base if adapter else "THIS_FOLDER"
    imports = "from peft import PeftModel\n" if adapter else ""
    return (
        "## Use\n\n```python\n"
        f"{imports}from transformers import AutoModelForCausalLM, AutoTokenizer\n\n{load}\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{where}")\n```\n\n'
        f"```sh\n{serve}\n```\n\n"
        f'With its own prompts, solving and correcting itself: `load_chat_model("local:{where}'
        f'{"+THIS_FOLDER" if adapter else ""}")` of `supercorrect_agent.models`, given to '
        "`create_supercorrect_graph`."
    )


def _prompts(run: Mapping[str, Any]) -> str:
    known = (run.get("data") or {}).get("prompts") or {}
    names = _bullets(
        {name: known[name] for name in ("solve", "plain", "review", "continue") if name in known}
    )
    return (
        "## Prompts\n\nTrained with these prompts, by id and version, in the user's turn of the tokenizer's "
        f"own chat template; ask with the same ones.\n\n{names}"
    )


def _data(run: Mapping[str, Any]) -> str:
    data = run.get("data") or {}
    kinds = _counts(data.get("kept_by_kind") or {})
    lines = {
        "rows": f"{data.get('kept')} ({kinds}), and {data.get('kept_test', 0)} held out",
        "traces": f"{data.get('traces_used')} of {data.get('traces_read')} gave a row",
        "left out": _counts(data.get("dropped") or {}) or "none",
        "SHA-256 of the training rows": f"`{data.get('data_hash')}`",
    }
    for split, found in _lengths(run).items():
        lines[f"tokens per row, {split}"] = (
            f"median {found['p50']}, 95th percentile {found['p95']}, longest {found['longest']}; "
            f"{found['dropped']} rows were too long and left out, none was cut"
        )
    return f"## Data\n\n{_bullets(lines)}"


def _lengths(run: Mapping[str, Any]) -> dict[str, Any]:
    lengths = run.get("lengths") or {}
    return {"train": lengths} if "p50" in lengths else dict(lengths)


def _settings(run: Mapping[str, Any]) -> str:
    config = run["config"]
    hidden = {name for name in _SETTINGS if name.startswith("lora_")} if config.get("full") else set()
    rows = {name: config[name] for name in _SETTINGS if name in config and name not in hidden}
    known = ("global_batch", "processes", "tokens_seen", "seconds", "tokens_per_second")
    rows |= {name: run[name] for name in known if name in run}
    body = "\n".join(f"| {name} | {_plain(value)} |" for name, value in rows.items())
    return f"## Settings\n\n| setting | value |\n|---|---|\n{body}"


def _results(run: Mapping[str, Any], output: Path) -> str:
    results = run.get("results") or {}
    lines = {words: f"{results[name]:.4g}" for name, words in _RESULTS.items() if name in results}
    parts = ["## Results", _bullets(lines) or "No loss was logged."]
    if run.get("probe"):
        parts.append(_probe_table(run))
    alarms = [f"- step {alarm['step']}: {alarm['message']}" for alarm in run.get("alarms") or []]
    parts.append("Alarms during training:\n\n" + "\n".join(alarms) if alarms else "No alarm was raised.")
    if (output / PICTURE).is_file():
        parts.append(f"![Loss and further numbers over the steps]({PICTURE})")
    parts.append("**Not evaluated** on test problems: `python -m training.evaluate` does that.")
    return "\n\n".join(parts)


def _probe_table(run: Mapping[str, Any]) -> str:
    config, rows = run["config"], []
    problems = run.get("probe_problems", config["probe_n"])  # a file may hold fewer
    for probe in run["probe"]:
        shares = " | ".join(f"{probe[name]:.1%}" for name in ("accuracy", "format_valid", "unfinished"))
        rows.append(f"| {probe['step']} | {shares} | {probe['tokens']:.0f} |")
    return (
        f"Greedy replies to {problems} problems during training, of at most "
        f"{config['probe_max_new_tokens']} tokens:\n\n"
        "| step | right answer | valid layout | no end of turn | tokens |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
    )


def _provenance(run: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items() if number)
    lines = {
        "commit": f"`{run['commit']}`" if run.get("commit") else "unknown",
        "seed": run["config"]["seed"],
        "versions": f"Python {run['python']}, {versions}",
        "hardware": run["machine"],
    }
    rest = "Every setting is in `run.json`, every logged number in `log.jsonl`."
    return f"## Provenance\n\n{_bullets(lines)}\n\n{rest}"


def _bullets(lines: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _plain(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(each) for each in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
