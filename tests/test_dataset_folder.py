"""Dataset folders: what is on disk, what a rerun leaves, and that `datasets` and stock TRL read them."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import DataError, SuperCorrectError
from supercorrect_agent.store import open_store
from supercorrect_agent.types import Trace
from tests.tiny import build_tiny_model
from tests.training_traces import TEMPLATE, make_round, make_trace, numbered
from training.config import DatasetConfig
from training.data import load_manifest, load_rows, run_data, save_dataset
from training.dataset_card import dataset_card
from training.manifest import hash_row
from training.pairs import build_preference_dataset
from training.rows import Candidates, Rows, draft_of
from training.sft_rows import build_sft_dataset


def hash_rows(rows: list[dict[str, Any]]) -> str:
    """The hash that a manifest has of a split: neither that nor trace ids are part of it."""
    digest = hashlib.sha256()
    for row in rows:
        content = {name: value for name, value in row.items() if name not in ("split", "trace_id")}
        line = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n"
        digest.update(hashlib.sha256(line.encode()).digest())
    return digest.hexdigest()


def traces(count: int = 12) -> list[Trace]:
    return [make_trace(make_round(), template=TEMPLATE, question=numbered(i)) for i in range(count)]


def without_split(rows: Any, split: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "split"} for row in rows if row["split"] == split]


# Rows on disk


def test_rows_are_a_sequence_over_a_file() -> None:
    rows = Rows()
    for text in ("a", "b\nb", "\u00e9\ud800"):
        rows.append({"text": text})
    assert len(rows) == 3
    assert rows[1] == rows[-2] == {"text": "b\nb"}
    assert [row["text"] for row in rows] == ["a", "b\nb", "\u00e9?"]  # no file holds a lone surrogate
    assert rows == [{"text": "a"}, {"text": "b\nb"}, {"text": "\u00e9?"}] != rows[:2]
    taken = rows.take([2, 0])
    rows.append({"text": "later"})
    assert [row["text"] for row in taken] == ["\u00e9?", "a"]
    with pytest.raises(IndexError):
        _ = taken[2]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted as Linux does")
def test_the_file_goes_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    rows, _ = build_preference_dataset(traces(3))
    assert (len(rows), list(tmp_path.iterdir())) == (3, [])
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del rows
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    rows, _ = build_preference_dataset(traces(3))
    rows.close()
    with pytest.raises(ValueError, match="closed"):
        _ = rows[0]


def test_a_row_is_hashed_without_its_trace_and_split() -> None:
    expected = hashlib.sha256(b'{"a":1,"b":"x"}\n').digest()
    assert hash_row({"b": "x", "a": 1, "trace_id": "t", "split": "train"}) == expected
    assert hash_row({"b": "\ud800"}) == hashlib.sha256(b'{"b":"?"}\n').digest()


def test_candidates_come_in_the_order_of_a_hash_of_the_seed_and_the_row() -> None:
    rows = [{"text": text, "trace_id": "t", "problem_id": text} for text in "abcdefgh"]

    def place(row: dict[str, str], seed: int) -> bytes:
        return hashlib.sha256(f"{seed} {hash_row(row).hex()}\n".encode()).digest()

    for seed in (0, 1):
        candidates = Candidates(seed, 0.0)
        for row in rows:
            candidates.put(draft_of(row, {}, question=row["text"]))
        found = [row["text"] for row in candidates.rows(candidates.ordered())]
        assert found == [row["text"] for row in sorted(rows, key=lambda row: place(row, seed))]


# What is written and read


@pytest.mark.parametrize("build", [build_sft_dataset, build_preference_dataset])
def test_a_folder_reads_back_and_loads_as_a_hub_dataset(tmp_path: Path, build: Any) -> None:
    import datasets

    rows, manifest = build(traces(), test_share=0.4)
    assert min(manifest.kept, manifest.kept_test) > 0
    folder = save_dataset(tmp_path / "a [b]*", rows, manifest)
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "manifest.json", "test.parquet", "train.parquet",
    }  # fmt: skip
    train, test = without_split(rows, "train"), without_split(rows, "test")
    for split, expected in (("train", train), ("test", test)):
        loaded, read = load_rows(folder, split)
        assert (list(loaded), read) == (expected, manifest)
        assert loaded.cache_files  # mapped, not in memory
    assert (manifest.data_hash, manifest.test_hash) == (hash_rows(train), hash_rows(test))
    folder = folder.rename(tmp_path / "plain")  # `datasets` itself reads stars and brackets as patterns
    hub = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: list(part) for split, part in hub.items()} == {"train": train, "test": test}


def test_a_rerun_leaves_nothing_of_the_old_rows(tmp_path: Path) -> None:
    folder = save_dataset(tmp_path, *build_preference_dataset(traces(), test_share=0.4))
    load_rows(folder)
    rows, manifest = build_preference_dataset(traces(3))
    save_dataset(folder, rows, manifest)
    assert {path.name for path in folder.iterdir()} == {"README.md", "manifest.json", "train.parquet"}
    assert list(load_rows(folder)[0]) == without_split(rows, "train")
    assert "test" not in (folder / "README.md").read_text().split("---")[1]
    with pytest.raises(DataError, match=r"no split `test`.*--test_share"):
        load_rows(folder, "test")


def test_rows_written_anew_are_never_taken_from_the_cache(tmp_path: Path) -> None:
    """Even when the file has the age and the size of the old one."""
    rows = [build_preference_dataset([make_trace(make_round(), question=numbered(i))]) for i in (1, 2)]
    for each in rows:
        folder = save_dataset(tmp_path, *each)
        os.utime(folder / "train.parquet", (0, 0))
        assert list(load_rows(folder)[0]) == without_split(each[0], "train")


def killed(*_: Any) -> str:
    raise KeyboardInterrupt


def test_an_interrupted_rerun_leaves_the_old_rows_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, manifest = build_preference_dataset(traces(3))
    folder = save_dataset(tmp_path, rows, manifest)
    more = build_preference_dataset(traces(4))
    with monkeypatch.context() as patch:
        patch.setattr("training.dataset_folder._write_parquet", killed)
        with pytest.raises(KeyboardInterrupt):
            save_dataset(folder, *more)
    assert list(load_rows(folder)[0]) == without_split(rows, "train")
    with monkeypatch.context() as patch:
        patch.setattr("training.dataset_folder.dataset_card", killed)
        with pytest.raises(KeyboardInterrupt):
            save_dataset(folder, *more)
    with pytest.raises(DataError, match=r"training\.data"):
        load_rows(folder)


def test_an_empty_or_broken_dataset_says_why(tmp_path: Path) -> None:
    rows, manifest = build_preference_dataset([make_trace(make_round(student=None))])
    with pytest.raises(DataError, match="no review by the student: 1"):
        save_dataset(tmp_path, rows, manifest)
    rows, manifest = build_preference_dataset(traces(1), test_share=0.9999999)
    with pytest.raises(DataError, match="split test: 1"):
        save_dataset(tmp_path, rows, manifest)
    with pytest.raises(DataError, match=r"training\.data"):
        load_rows(tmp_path / "nowhere")
    folder = save_dataset(tmp_path / "pairs", *build_preference_dataset(traces(3)))
    manifest = load_manifest(folder)
    (folder / "manifest.json").write_text(manifest.model_copy(update={"kept": 2}).model_dump_json())
    with pytest.raises(DataError, match="holds 3 rows, but its manifest counts 2"):
        load_rows(folder)
    for text in ("{}", "no JSON"):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(DataError, match="is not a dataset folder") as broken:
            load_rows(folder)
        assert "\n" not in str(broken.value)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    (folder / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"train\.parquet' cannot be read"):
        load_rows(folder)


def test_the_card_says_what_was_kept_and_dropped(tmp_path: Path) -> None:
    both = [*traces(2), make_trace(make_round(student=None), question=numbered(2))]
    manifest = build_preference_dataset(both)[1]
    card = dataset_card(manifest)
    assert card.startswith("---\ntags:\n")
    for line in (
        "  - split: train\n    path: train.parquet\n---",
        "| correction | 2 |",
        "| no review by the student | 1 |",
        "| prompt `review` | `supercorrect.review@2` |",
        f"| rows | `{manifest.data_hash}` |",
        "| option `near_duplicate` | `0.9` |",
        "trl dpo --model_name_or_path MODEL --dataset_name FOLDER",
        "Stock TRL trains on the prefix too",
        "| `prefix` | the text that both sides begin with |",
    ):
        assert line in card
    assert "Stock TRL" not in dataset_card(build_sft_dataset(traces(2))[1])


def test_every_option_reaches_the_builders(tmp_path: Path) -> None:
    store = open_store(tmp_path / "traces")
    for trace in traces(4):
        store.append(trace)
    (tmp_path / "held.jsonl").write_text(json.dumps({"question": numbered(0), "answer": "1"}) + "\n")
    shared: dict[str, Any] = {
        "test_share": 0.25, "trusted_authors": ("sandbox", "judge"), "max_rows": 2, "seed": 3,
        "held_out_words": 17,
    }  # fmt: skip
    ours: dict[str, Any] = {
        "preference": {
            "pair_format": "literal_eq8", "chosen_source": "teacher", "pair_scope": "difference",
            "solve_pairs": True, "max_length_ratio": 3.0, "near_duplicate": 0.8,
            "max_per_problem": 1,
        },
        "sft": {
            "style": "hierarchical", "reviews": True, "review_share": 0.5, "no_error_share": 0.3,
            "own_solutions": True, "max_tokens": 100_000,
        },
    }  # fmt: skip
    for kind, options in ours.items():
        config = DatasetConfig.model_validate(
            {
                "kind": kind, "store": (tmp_path / "traces",), "output": tmp_path / kind,
                "held_out": (str(tmp_path / "held.jsonl"),), **shared, **options,
            }
        )  # fmt: skip
        said: list[str] = []
        manifest = load_manifest(run_data(config, say=said.append))
        expected = {**shared, **options, "trusted_authors": ["judge", "sandbox"], "held_out": 1}
        assert manifest.options == expected
        assert manifest.dropped["held out"] == 1
        assert f"{manifest.kept} rows" in said[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "preference", "max_tokens": 5}, r"`max_tokens=5` .* Pass `max_rows`"),
        ({"held_out": "nowhere.jsonl"}, r"`held_out=nowhere\.jsonl` cannot be read"),
    ],
)
def test_an_option_that_cannot_be_followed_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    open_store(tmp_path / "traces").append(traces(1)[0])
    config = DatasetConfig.model_validate({"store": str(tmp_path / "traces"), "output": tmp_path, **options})
    with pytest.raises(SuperCorrectError, match=message):
        run_data(config)


def test_lines_of_a_store_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    store = open_store(tmp_path / "traces")
    store.append(traces(1)[0])
    with store.file.open("a") as file:
        file.write("torn\n{}\n")
    said: list[str] = []
    run_data(DatasetConfig(store=(tmp_path / "traces",), output=tmp_path / "rows"), say=said.append)
    assert said[1] == f"data: 2 lines of '{tmp_path / 'traces'}' cannot be read and were skipped"


# Stock TRL


@pytest.mark.integration
@pytest.mark.parametrize(("command", "kind"), [("sft", "sft"), ("dpo", "preference")])
def test_stock_trl_trains_and_evaluates_on_the_folder_as_it_is(
    tmp_path: Path, command: str, kind: str
) -> None:
    build: Any = build_sft_dataset if kind == "sft" else build_preference_dataset
    folder = save_dataset(tmp_path / "rows", *build(traces(8), test_share=0.4))
    model = build_tiny_model(tmp_path / "model", context=2048)
    config = {
        "model_name_or_path": str(model), "dataset_name": str(folder), "output_dir": str(tmp_path / "out"),
        "max_steps": 2, "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2,
        "eval_strategy": "steps", "eval_steps": 1, "logging_steps": 1, "max_length": 2048,
        "report_to": "none", "save_strategy": "no", "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False,
    }  # fmt: skip
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hf"), "HF_DATASETS_CACHE": str(tmp_path / "hf" / "datasets"),
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    trl = Path(sys.executable).with_name("trl")
    done = subprocess.run(
        [trl, command, "--config", file], env=environment, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "eval_loss" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()
