"""How busy the runner keeps a real vLLM server, against a bare client that sends it the same requests.

    python -m benchmarks.saturation [--problems 200] [--repeats 5] [--concurrency 64] [--url URL]
                                    [--model NAME] [--executor uni|mp] [--output FILE]

Without ``--url`` the packaged student is served by the CPU build of vLLM (``sh tests/install_vllm.sh``), on
the same cores as everything else: by one process (``uni``), or by vLLM's default of two that spin while they
wait for each other (``mp``). A first run through ``training.collect`` records the body of every request
as it goes out. Then, in turn and each in a process of its own:

- ``runner``: ``run_collect`` as its command runs it, with the trace store on disk and the rule teacher;
- ``bare``: an asyncio loop over one ``aiohttp`` session that posts the recorded bodies and reads the JSON of
  the replies: a problem's requests one after another, as many problems at once as the runner has. No
  LangChain, no parsing, no verdicts, no trace;
- ``httpx`` and ``openai``: the same through ``httpx`` and through ``openai.AsyncOpenAI``, for comparison.

Requests, answers and the server's caches are the same for all: decoding is greedy, and the recording has
warmed the cache. The clock runs from the first problem to the last one's end, imports not included. The
ratio is problems a second, runner over the other, repeat by repeat; the target is on ``bare``. The processor
time of the client's process says what the runner costs where other programs disturb the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.ratios import Spread, in_turn, publish, ratio, spread
from supercorrect_agent.models import SANDBOX_STUDENT
from supercorrect_agent.problems import load_problems
from training.collect import run_collect
from training.config import CollectionConfig
from training.provenance import provenance

LEAST = 0.85
GOAL = 0.95
WARM_UP = 4  # problems before the clock runs
PATH = "/chat/completions"
HEADERS = {"Content-Type": "application/json"}

Bodies = list[list[str]]  # of each problem, in order
Post = Callable[[str], Awaitable[Any]]
Runner = Callable[[CollectionConfig, Bodies], None]


def settings(work: Path, url: str, given: argparse.Namespace) -> CollectionConfig:
    """The collection: solve, review and correct, greedily, in the words that the student was trained with."""
    return CollectionConfig(
        problems="sandbox:train",
        n=given.problems,
        student=f"vllm:{given.model}@{url}",
        prompts=str(SANDBOX_STUDENT / "prompts.toml"),
        store=work / "traces",
        concurrency=given.concurrency,
        max_new_tokens=256,
    )


def record(config: CollectionConfig) -> Bodies:
    """Runs the collection and keeps what it sends, by problem: every request quotes the question."""
    from supercorrect_agent.models.connections import ClientPerLoop

    problems = load_problems(config.problems, n=config.n, seed=config.seed)
    sent: dict[str, list[str]] = {problem.question: [] for problem in problems}
    send = ClientPerLoop.send

    async def keep(client: Any, request: Any, **options: Any) -> Any:
        body = request.content.decode()
        first = json.loads(body)["messages"][0]["content"]
        sent[next(question for question in sent if question in first)].append(body)
        return await send(client, request, **options)

    with patch.object(ClientPerLoop, "send", keep):
        found = run_collect(config, say=_silent)
    calls = sum(map(len, sent.values()))
    if found["errors"] or calls != found["calls"]["student"] or not all(sent.values()):
        raise SystemExit(f"{calls} requests were seen of a run that says {found}. Is the server at work?")
    return list(sent.values())


def _silent(line: str) -> None:
    """Takes a progress line and drops it."""


def run_runner(config: CollectionConfig, bodies: Bodies) -> None:
    """The collection as the command runs it."""
    found = run_collect(config, say=_silent)
    if found["errors"] or found["collected"] != len(bodies):
        raise SystemExit(f"the runner did not do its work: {found}")


def run_client(connect: Callable[[str], contextlib.AbstractAsyncContextManager[Post]]) -> Runner:
    """A contestant that posts the recorded bodies."""

    def run(config: CollectionConfig, bodies: Bodies) -> None:
        url = f"{config.student.rpartition('@')[2]}/v1"
        asyncio.run(_post_all(connect(url), bodies, config.concurrency))

    return run


async def _post_all(
    connected: contextlib.AbstractAsyncContextManager[Post], bodies: Bodies, concurrency: int
) -> None:
    waiting = iter(bodies)

    async def work() -> None:
        for requests in waiting:
            for body in requests:
                await post(body)

    async with connected as post:
        await asyncio.gather(*(work() for _ in range(concurrency)))


@contextlib.asynccontextmanager
async def bare_client(url: str) -> AsyncIterator[Post]:
    """The client that takes the least processor time of those that Python has."""
    import aiohttp

    # shorter than the 5 s after which vLLM closes a connection, or a request may meet the closing
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(body: str) -> Any:
            async with session.post(f"{url}{PATH}", data=body.encode(), headers=HEADERS) as reply:
                reply.raise_for_status()
                return json.loads(await reply.read())["choices"][0]["message"]["content"]

        yield post


@contextlib.asynccontextmanager
async def httpx_client(url: str) -> AsyncIterator[Post]:
    """The client that most programs have."""
    import httpx

    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000, keepalive_expiry=3)
    async with httpx.AsyncClient(limits=limits, timeout=600) as client:

        async def post(body: str) -> Any:
            reply = await client.post(f"{url}{PATH}", content=body, headers=HEADERS)
            reply.raise_for_status()
            return json.loads(reply.content)["choices"][0]["message"]["content"]

        yield post


@contextlib.asynccontextmanager
async def openai_client(url: str) -> AsyncIterator[Post]:
    """OpenAI's own client."""
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:

        async def post(body: str) -> Any:
            fields = json.loads(body)
            known = {key: fields.pop(key) for key in ("messages", "model")}
            reply = await client.chat.completions.create(**known, extra_body=fields)
            return reply.choices[0].message.content

        yield post


CONTESTANTS: dict[str, Runner] = {
    "runner": run_runner,
    "bare": run_client(bare_client),
    "httpx": run_client(httpx_client),
    "openai": run_client(openai_client),
}


def run_worker(name: str, config: CollectionConfig, bodies: Bodies) -> dict[str, float]:
    """One contestant, after a few problems that load what it needs.

    Returns:
        ``seconds`` by the clock, and ``cpu`` seconds of this process and those it started and ended.
    """
    few = config.model_copy(update={"n": WARM_UP, "store": config.store / "warm"})
    CONTESTANTS[name](few, bodies[:WARM_UP])
    started, cpu = time.perf_counter(), time.process_time()
    CONTESTANTS[name](config, bodies)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


def in_new_process(name: str, url: str, work: Path, given: argparse.Namespace) -> dict[str, float]:
    """Runs a contestant in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.saturation", "--worker", name, "--url", url]
    command += ["--work", str(work), "--problems", str(given.problems), "--model", given.model]
    done = subprocess.run(
        [*command, "--concurrency", str(given.concurrency)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(url: str, work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Every contestant ``repeats`` times, in turn."""
    bodies = record(settings(work / "recording", url, given))
    (work / "bodies.json").write_text(json.dumps(bodies), encoding="utf-8")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for repeat in range(given.repeats):
        for name in in_turn(list(CONTESTANTS), repeat):
            with tempfile.TemporaryDirectory(dir=work) as folder:
                (Path(folder) / "bodies.json").symlink_to(work / "bodies.json")
                runs[name].append(in_new_process(name, url, Path(folder), given))
            print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    return {
        "problems": given.problems,
        "requests": sum(map(len, bodies)),
        "concurrency": given.concurrency,
        "executor": "unknown" if given.url else given.executor,
        "repeats": given.repeats,
        **summarize(runs, given.problems),
    }


def summarize(runs: dict[str, list[dict[str, float]]], problems: int) -> dict[str, Any]:
    """Rates, processor times and ratios of the runs."""
    seconds = {name: [one["seconds"] for one in found] for name, found in runs.items()}
    return {
        "problems_per_second": {
            name: spread([problems / each for each in spent]) for name, spent in seconds.items()
        },
        "cpu_ms_per_problem": {
            name: spread([1000 * one["cpu"] / problems for one in found]) for name, found in runs.items()
        },
        # a rate is problems over seconds: ours over theirs is their seconds over ours
        "ratios": {name: ratio(seconds[name], seconds["runner"]) for name in seconds if name != "runner"},
    }


def sentences(found: dict[str, Any]) -> list[str]:
    """The figures in words."""
    lines = []
    for name, each in found["ratios"].items():
        line = f"problems a second, runner / {name}: {each['median']:.3f}"
        line += f" ({each['low']:.3f} to {each['high']:.3f})"
        lines.append(line + (f"; {judgement(each)}" if name == "bare" else "; no target"))
    for name, rate in found["problems_per_second"].items():
        cpu = found["cpu_ms_per_problem"][name]["median"]
        lines.append(f"{name}: {rate['median']:.2f} problems a second, {cpu:.1f} ms of processor time each")
    return lines


def judgement(found: Spread) -> str:
    """The ratio beside what it is to be."""
    reached = found["median"]
    least = f"at least {LEAST}: {'met' if reached >= LEAST else 'missed'}"
    return f"{least}; goal {GOAL}: {'met' if reached >= GOAL else 'missed'}"


@contextlib.contextmanager
def served(work: Path, executor: str) -> Iterator[str]:
    """The packaged student behind a real vLLM server."""
    from supercorrect_agent.sandbox import student_path
    from tests.vllm_server import serve

    with serve(student_path(), work / "server.log", context=1024, executor=executor) as url:
        yield url


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=200, help="a contestant and repeat (default: 200)")
    parser.add_argument("--repeats", type=int, default=5, help="of each contestant (default: 5)")
    parser.add_argument("--concurrency", type=int, default=64, help="problems in flight (default: 64)")
    parser.add_argument("--url", help="a server that runs already, which serves the packaged student")
    parser.add_argument("--model", default="tiny", help="the name it is served by (default: tiny)")
    parser.add_argument("--executor", choices=("uni", "mp"), default="uni", help="vLLM's (default: uni)")
    parser.add_argument("--output", type=Path, help="also write the report as JSON")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parse(arguments)
    if given.worker:
        bodies = json.loads((given.work / "bodies.json").read_text(encoding="utf-8"))
        print(json.dumps(run_worker(given.worker, settings(given.work, given.url, given), bodies)))
        return
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = given.url or stack.enter_context(served(work, given.executor))
        found = measure(url, work, given)
    found |= {name: version(name) for name in ("langgraph", "langchain-core", "openai", "aiohttp", "httpx")}
    publish(found | provenance(), sentences(found), given.output)


if __name__ == "__main__":
    main()
