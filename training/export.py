"""A LoRA adapter merged into its base: a whole model that any tool for checkpoints loads.

    python -m training.export --model models/base --adapter runs/dpo --output models/student

The folder holds safetensors, the tokenizer with its chat template, the generation settings and, where the
base has them, the prompts it was trained with. It is written under another name and renamed at the end, so it
is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.prompts import PROMPT_FILE
from training.config import StageConfig
from training.flags import run_main
from training.folders import make_folder
from training.progress import Say, print_line
from training.provenance import provenance
from training.sources import model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXPORT_FILE = "export.json"


class ExportConfig(StageConfig):
    """Merges a LoRA adapter into its base and saves the whole model."""

    model: str = Field(default="sandbox", description="base model: sandbox, or a Hugging Face path or folder")
    adapter: Path = Field(description="adapter folder that training.sft or training.dpo wrote")
    output: Path = Field(default=Path("runs/merged"), description="folder of the merged model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="weights; auto: as the base has them"
    )


def run_export(config: ExportConfig, *, say: Say = print_line) -> Path:
    """Merges and saves; an output folder that holds this very model already is left as it is.

    Raises:
        ModelError: The base or the adapter cannot be loaded, or the base is quantised.
        ConfigError: The output folder holds something else, or cannot be written.
    """
    if not (config.adapter / "adapter_config.json").is_file():
        raise ModelError(
            f"`adapter={config.adapter}` is not a LoRA adapter folder. Pass the output of training.dpo."
        )
    from supercorrect_agent.models.folder import no_progress_bars

    source = _source(config)
    if _holds(config.output, source):
        say(f"export: {config.output} is there already")
        return config.output
    make_folder(config.output.parent, argument="output")
    part = config.output.with_name(f".{config.output.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a run that was killed has left
    part.mkdir()
    with no_progress_bars():
        _save(config, part)
    (part / EXPORT_FILE).write_text(json.dumps({**source, **provenance()}, indent=2) + "\n", encoding="utf-8")
    part.replace(config.output)
    say(f"export: {config.output} holds {config.model} with {config.adapter}")
    return config.output


def _source(config: ExportConfig) -> dict[str, Any]:
    """What the merged model is made of: the same source gives the same model."""
    digest = hashlib.sha256()
    for file in sorted(config.adapter.glob("adapter_*")):
        digest.update(file.read_bytes())
    return {"model": config.model, "adapter_hash": digest.hexdigest(), "dtype": config.dtype}


def _holds(output: Path, source: dict[str, Any]) -> bool:
    """Whether the folder holds the model that ``source`` makes; False where there is nothing yet."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    try:
        found = json.loads((output / EXPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    if source.items() <= found.items():
        return True
    raise ConfigError(f"`output={output}` holds something else. Choose another folder, or remove it.")


def _save(config: ExportConfig, folder: Path) -> None:
    from training.student import load_tokenizer

    path = model_path(config.model)
    tokenizer = load_tokenizer(path)
    model = _merge(path, config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompts = Path(path) / PROMPT_FILE
    if prompts.is_file():
        shutil.copyfile(prompts, folder / PROMPT_FILE)


def _merge(path: str, config: ExportConfig) -> PreTrainedModel:
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM

    from training.student import first_line, unloadable

    try:
        if getattr(AutoConfig.from_pretrained(path), "quantization_config", None) is not None:
            raise ModelError(
                f"`model={config.model}` is quantised, and merging into rounded weights loses the adapter. "
                "Pass the checkpoint it was made from."
            )
        dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
        base = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        adapted = PeftModel.from_pretrained(base, str(config.adapter))
        return adapted.merge_and_unload(safe_merge=True)  # refuses weights that are not finite
    except unloadable() as error:
        raise ModelError(
            f"`{config.adapter}` cannot be merged into `{path}` ({first_line(error)}). "
            "Pass the base it was trained on."
        ) from error


def main() -> int:
    return run_main(ExportConfig, run_export, program="training.export")


if __name__ == "__main__":
    sys.exit(main())
