"""Pre-trains the sandbox student: the skills a language model brings along, without the template's columns.

The base learns to read a story, to work out columns as a drill of its own, quickly and slowly, to copy a
claim, to check it by the inverse operation, to repair it, and to review a flawed solution. It solves stories
only by direct arithmetic: putting the columns into a solution as ``<Key>`` is what stage 1 teaches.

    python -m training.pretrain_sandbox --out supercorrect_agent/sandbox/student --tokens 20000000 --seed 0

The released checkpoint's command, duration and losses are in ``docs/sandbox.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import distributed
from torch.multiprocessing.spawn import spawn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from supercorrect_agent.prompts import render_prompt
from supercorrect_agent.sandbox import sandbox_prompts
from supercorrect_agent.sandbox.arithmetic import INVERSE, OPERATORS, Work, work, work_slowly
from supercorrect_agent.sandbox.slips import flawed_solution, flawed_work, flawed_works
from supercorrect_agent.sandbox.teacher import Claim, review_steps, write_cause
from supercorrect_agent.sandbox.world import Event, Story, draw_story, story_split, tell_story
from supercorrect_agent.sandbox.writing import (
    write_check,
    write_plan,
    write_step,
    write_steps,
)
from supercorrect_agent.templates import parse_solution

PROMPTS = sandbox_prompts()
BOS, USER, ASSISTANT, END, PAD = "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
TAGS = [
    tag
    for name in [
        *(f"Step{i}" for i in range(1, 7)),
        "Key",
        "Generalized",
        "Answer",
        "Evaluate",
        "Cause",
        "Correction",
    ]
    for tag in (f"<{name}>", f"</{name}>")
]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WEIGHTED = {" ok": 4.0, " wrong": 4.0, " same": 2.0, " differ": 2.0, "=": 1.0, "#": 2.0}


@dataclass(frozen=True)
class Row:
    """One prompt and the text to learn."""

    prompt: str
    text: str


def draw_train_story(rng: random.Random) -> Story:
    """A story of the training split: the other splits are never seen, in no form."""
    while True:
        story = draw_story(rng)
        if story_split(story) == "train":
            return story


def _draw_operation(rng: random.Random) -> tuple[int, Event]:
    story = draw_train_story(rng)
    place = rng.randrange(len(story.events))
    return story.values()[place], story.events[place]


def _draw_drill(rng: random.Random) -> tuple[int, Event]:
    """An operation of a story or, twice in five, of plain random numbers; now and then its inverse."""
    if rng.random() < 0.6:
        left, event = _draw_operation(rng)
    else:
        operator = rng.choice(OPERATORS)
        left, right = rng.randint(1, 999), rng.randint(1, 999) if operator in "+-" else rng.randint(2, 9)
        event = Event(operator, right)
    return left, Event(INVERSE[event.operator], event.number) if rng.random() < 0.3 else event


def column_row(rng: random.Random) -> Row:
    """Work out one operation in columns."""
    left, event = _draw_drill(rng)
    done = work(left, event.operator, event.number)
    return Row(f"Columns.\n{done.expression}", f"{done.key} {done.expression}={done.result}")


def slow_row(rng: random.Random) -> Row:
    """Work out one operation fact by fact."""
    left, event = _draw_drill(rng)
    done = work(left, event.operator, event.number)
    facts = work_slowly(left, event.operator, event.number)
    return Row(f"Slowly.\n{done.expression}", f"{facts} {done.expression}={done.result}")


def check_row(rng: random.Random) -> Row:
    """Check one claim that is right or wrong with even odds."""
    left, event = _draw_operation(rng)
    need = work(left, event.operator, event.number)
    claim = flawed_work(rng, left, event, 0.55)
    body, _ = write_check(need, claim.expression, claim, claim.result)
    return Row(f"Check {claim.expression}={claim.result} for {need.expression}", body)


def repair_row(rng: random.Random) -> Row:
    """Say what is wrong with a claim, working slowly, and put it right."""
    left, event = _draw_operation(rng)
    need = work(left, event.operator, event.number)
    wrong = flawed_work(rng, left, event, 1.0)
    while wrong.expression == need.expression and wrong.result == need.result:
        wrong = flawed_work(rng, left, event, 1.0)
    claim = Claim(wrong.left, wrong.operator, wrong.right, wrong.result)
    text = f"<Cause>{write_cause(need, claim)}</Cause><Correction>{write_step(need)}</Correction>"
    return Row(f"Repair {claim} for {need.expression}", text)


def copy_row(rng: random.Random) -> Row:
    """Quote one line out of several random ones: copying is the only way to get it right."""
    count = rng.randint(2, 4)
    claims = [
        f"{rng.randint(1, 999)}{rng.choice(OPERATORS)}{rng.randint(1, 999)}={rng.randint(1, 999)}"
        for _ in range(count)
    ]
    asked = rng.randrange(count)
    return Row(
        f"Copy step {asked + 1}.\n{write_steps(claims)}",
        f"<Step{asked + 1}>{claims[asked]}</Step{asked + 1}>",
    )


def read_row(rng: random.Random) -> Row:
    """Say what happens in a story, step by step, without working anything out."""
    story = draw_train_story(rng)
    plans = [write_plan(Work(0, event.operator, event.number, (), "")) for event in story.events]
    return Row(f"What happens?\n{tell_story(rng, story)}", f"Start with {story.start}.\n{write_steps(plans)}")


def solve_row(rng: random.Random) -> Row:
    """A solution in tagged steps by direct arithmetic: the base knows the tags, not the columns in them."""
    story = draw_train_story(rng)
    prompt = render_prompt(PROMPTS.solve, problem=tell_story(rng, story))
    return Row(prompt, flawed_solution(rng, story, 0.08, misreading=0.01, show_work=False))


def plain_row(rng: random.Random) -> Row:
    """A plain solution by direct arithmetic."""
    story = draw_train_story(rng)
    done = flawed_works(rng, story, 0.08, misreading=0.01)
    lines = "\n".join(write_step(each, show_work=False) for each in done)
    prompt = render_prompt(PROMPTS.plain, problem=tell_story(rng, story))
    return Row(prompt, f"{lines}\nAnswer: \\boxed{{{done[-1].result}}}")


def review_row(rng: random.Random) -> Row:
    """A review of a flawed or faultless solution, up to the first wrong step's correction."""
    story = draw_train_story(rng)
    slip_rate, misreading = (0.0, 0.0) if rng.random() < 0.3 else (0.3, 0.25)
    show_work = rng.random() < 0.75
    attempt = flawed_solution(rng, story, slip_rate, misreading=misreading, show_work=show_work)
    read = parse_solution(attempt)
    trace, _ = review_steps(story, [step.text for step in read.steps], read.answer)
    return Row(render_prompt(PROMPTS.review, problem=tell_story(rng, story), solution=attempt), trace)


# Shares of rows at the beginning and at the end; in between they move along a straight line. Long reviews too
# early drown the arithmetic they rest on.
MIXTURE: dict[Callable[[random.Random], Row], tuple[float, float]] = {
    column_row: (0.28, 0.10),
    slow_row: (0.16, 0.08),
    check_row: (0.28, 0.16),
    repair_row: (0.00, 0.10),
    copy_row: (0.08, 0.04),
    read_row: (0.06, 0.06),
    solve_row: (0.07, 0.09),
    plain_row: (0.07, 0.09),
    review_row: (0.00, 0.28),
}


def draw_rows(rng: random.Random, count: int, *, progress: float = 1.0) -> list[Row]:
    """Draws rows of the mixture as it is after a share ``progress`` of the training."""
    shares = [first + (last - first) * progress for first, last in MIXTURE.values()]
    return [kind(rng) for kind in rng.choices(list(MIXTURE), shares, k=count)]


def build_tokenizer(rng: random.Random, *, vocabulary: int = 640) -> PreTrainedTokenizerFast:
    """A byte-level BPE with single digits and one token for every tag and chat mark."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|[^\w\s]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, BOS, USER, ASSISTANT, END]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(TAGS) - 1,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{row.prompt}\n{row.text}" for row in draw_rows(rng, 6000)]
    for tag in TAGS:
        texts = [text.replace(tag, " ") for text in texts]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in [*TAGS, "\\boxed{"]])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of about 0.95 million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=384,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


def batches(
    rng: random.Random,
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    batch_tokens: int,
    chunk: int = 2048,
) -> Iterator[tuple[float, torch.Tensor, torch.Tensor]]:
    """Yields ``steps`` times (share done, ids, prompt lengths), rows of like length together.

    ``ids`` is [rows, length], padded; rows times length is at most ``batch_tokens``.
    """
    pad, step = int(tokenizer.pad_token_id), 0
    while True:
        rows = draw_rows(rng, chunk, progress=step / steps)
        prompts = tokenizer([f"{BOS}{USER}{r.prompt}{ASSISTANT}" for r in rows], add_special_tokens=False)
        texts = tokenizer([f"{r.text}{END}" for r in rows], add_special_tokens=False)
        starts = [len(ids) for ids in prompts["input_ids"]]
        joined = [a + b for a, b in zip(prompts["input_ids"], texts["input_ids"], strict=True)]
        groups: list[list[int]] = [[]]
        for i in sorted(range(chunk), key=lambda i: len(joined[i])):
            if (len(groups[-1]) + 1) * len(joined[i]) > batch_tokens:
                groups.append([])
            groups[-1].append(i)
        rng.shuffle(groups)
        for group in filter(None, groups):
            ids = torch.full((len(group), max(len(joined[i]) for i in group)), pad)
            for row, i in enumerate(group):
                ids[row, : len(joined[i])] = torch.tensor(joined[i])
            yield step / steps, ids, torch.tensor([starts[i] for i in group])
            step += 1
            if step == steps:
                return


def weighted_loss(
    model: Any, ids: torch.Tensor, starts: torch.Tensor, weights: torch.Tensor, pad: int
) -> torch.Tensor:
    """Cross-entropy over the text's tokens; verdict tokens count more. ``weights`` is [vocabulary]."""
    hidden = model.model(input_ids=ids, attention_mask=(ids != pad).long()).last_hidden_state
    targets = ids[:, 1:]
    wanted = (torch.arange(targets.shape[1])[None] >= starts[:, None] - 1) & (targets != pad)
    logits = model.lm_head(hidden[:, :-1][wanted])
    chosen = targets[wanted]
    losses = torch.nn.functional.cross_entropy(logits, chosen, reduction="none")
    scale = weights[chosen]
    return (losses * scale).sum() / scale.sum()


def build_optimizers(model: torch.nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    inner = [
        p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n
    ]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(done: float) -> float:
    """Learning-rate factor after a share ``done`` of all tokens: short warm-up, then a cosine to 2 %."""
    return min(1.0, done / 0.01 + 0.01) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def average_gradients(model: torch.nn.Module) -> None:
    """Averages the gradients of all workers, in one message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def work_as(worker: int, workers: int, port: int, out: Path, settings: dict[str, Any]) -> None:
    """One worker: one thread, rows of its own, the same weights as the others."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=worker, world_size=workers)
    pretrain(out, worker=worker, workers=workers, **settings)
    distributed.destroy_process_group()


def pretrain(
    out: Path, *, tokens: int, seed: int, rate: float, batch_tokens: int, worker: int = 0, workers: int = 1
) -> None:
    """Trains for ``tokens`` tokens (prompts included) and saves checkpoint, tokenizer and log in ``out``."""
    torch.manual_seed(seed)
    rng = random.Random(f"{seed}:{worker}")
    tokenizer = build_tokenizer(random.Random(seed + 1))
    model = build_model(tokenizer)
    weights = torch.ones(len(tokenizer))
    for text, weight in WEIGHTED.items():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        weights[ids[-1]] = weight
    optimizers = build_optimizers(model, rate)
    if worker == 0:
        size = sum(p.numel() for p in model.parameters())
        print(f"{size:,} parameters, vocabulary of {len(tokenizer)} tokens", flush=True)
    log = Log(batch_tokens)
    source = batches(rng, tokenizer, steps=tokens // batch_tokens, batch_tokens=batch_tokens // workers)
    for done, ids, starts in source:
        loss = weighted_loss(model, ids, starts, weights, int(tokenizer.pad_token_id))
        loss.backward()  # type: ignore[no-untyped-call]
        if workers > 1:
            average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(done)
            optimizer.step()
            optimizer.zero_grad()
        if worker == 0:
            log.add(loss.item())
    if worker == 0:
        given = {"tokens": tokens, "batch_tokens": batch_tokens, "seed": seed, "rate": rate}
        save(model, tokenizer, out, {**given, "workers": workers, "log": log.lines})


class Log:
    """The mean loss of every 200 steps, printed and kept."""

    def __init__(self, batch_tokens: int) -> None:
        self.lines: list[dict[str, float]] = []
        self._batch_tokens, self._started, self._losses = batch_tokens, time.time(), list[float]()
        self._step = 0

    def add(self, loss: float) -> None:
        self._step += 1
        self._losses.append(loss)
        if self._step % 200:
            return
        seen, seconds = self._step * self._batch_tokens, time.time() - self._started
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        self.lines.append(
            {"step": self._step, "tokens": seen, "loss": round(mean, 4), "seconds": round(seconds)}
        )
        print(
            f"step {self._step}  tokens {seen:,}  loss {mean:.4f}  {seen / seconds:,.0f} tokens/s", flush=True
        )


def save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, report: dict[str, Any]
) -> None:
    """Writes float16 safetensors, the tokenizer with its chat template, and the pre-training log."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.to(torch.float16) for name, value in model.state_dict().items()}
    model.config.dtype = torch.float16
    model.save_pretrained(out, state_dict=state)
    tokenizer.save_pretrained(out)
    (out / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens to train on, prompts included")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens a step, all workers together")
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=torch.get_num_threads(), help="processes, one thread each"
    )
    parser.add_argument("--port", type=int, default=29511, help="loopback port where the workers meet")
    given = parser.parse_args()
    settings = {name: getattr(given, name) for name in ("tokens", "seed", "rate", "batch_tokens")}
    arguments = (given.workers, given.port, given.out, settings)
    spawn(work_as, arguments, nprocs=given.workers)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
