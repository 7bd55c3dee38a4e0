"""Calls of one server wait together: outages cost no call, what is nobody's fault but the call's own does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import httpx
import openai
import pytest

from supercorrect_agent.models import UnusableReply, load_chat_model
from supercorrect_agent.pacing import Endpoint, Pacing, fault_of, retry_after
from tests.fakes import ScriptedChatModel

REQUEST = httpx.Request("POST", "http://127.0.0.1:1/v1")
Attempt = Callable[[], Awaitable[str]]


class Skipping(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None = None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=Skipping) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def status(code: int, **headers: str) -> openai.APIStatusError:
    response = httpx.Response(code, headers=headers, request=REQUEST)
    kind = {429: openai.RateLimitError, 400: openai.BadRequestError, 401: openai.AuthenticationError}
    return kind.get(code, openai.InternalServerError)("no", response=response, body=None)


def refused() -> openai.APIConnectionError:
    return openai.APIConnectionError(request=REQUEST)


class Server:
    """Answers after a tenth of a second; ``fault`` says at a time what it answers instead."""

    def __init__(self, fault: Callable[[float], Exception | None]) -> None:
        self.fault, self.asked = fault, list[float]()

    async def __call__(self) -> str:
        self.asked.append(now())
        await asyncio.sleep(0.1)
        failure = self.fault(self.asked[-1])
        if failure is not None:
            raise failure
        return "fine"


async def ask(endpoint: Endpoint, server: Attempt, times: int) -> list[Any]:
    return await asyncio.gather(*[endpoint.call(server) for _ in range(times)], return_exceptions=True)


def make(patience: float = 600, timeout: float | None = None) -> Endpoint:
    return Endpoint("http://there", patience, 2, timeout)


class TestOutages:
    def test_a_minute_of_429_costs_no_call_and_asks_little(self) -> None:
        server = Server(lambda at: status(429) if at < 60 else None)
        assert run(ask(make(), server, 64)) == ["fine"] * 64
        # pauses of 1, 2, 4, 8, 16, 20, 20 s or a quarter more, each for half as many: 64+32+16+8+4+2+1+1
        assert sum(at < 60 for at in server.asked) <= 128
        # all of them are through within a few round trips and the last pause
        assert server.asked[-1] < 60 + 25 + 2

    def test_retry_after_holds_for_everybody(self) -> None:
        server = Server(lambda at: status(429, **{"retry-after": "30"}) if at < 1 else None)

        async def main() -> None:
            endpoint = make()
            first = asyncio.ensure_future(ask(endpoint, server, 4))
            await asyncio.sleep(0.5)  # they know by now
            assert await ask(endpoint, server, 4) == ["fine"] * 4
            assert await first == ["fine"] * 4

        run(main())
        assert [at for at in server.asked if 0 < at < 30] == []

    def test_a_server_that_wants_no_pause_gets_one(self) -> None:
        server = Server(lambda at: status(429, **{"retry-after": "0"}) if at < 10 else None)
        assert run(ask(make(), server, 1)) == ["fine"]
        assert len(server.asked) == 11  # every 1.1 seconds, from 0 to 11

    def test_a_restart_of_half_a_minute_costs_no_call(self) -> None:
        async def main() -> list[Any]:
            endpoint = make()
            down = Server(lambda at: refused() if 5 <= at < 35 else None)
            found: list[Any] = []
            for _ in range(120):
                found += await ask(endpoint, down, 8)
            assert not endpoint.lost
            return found

        assert run(main()) == ["fine"] * 960

    def test_a_server_that_stays_away_is_lost_after_patience(self) -> None:
        async def main() -> None:
            endpoint, server = make(patience=100), Server(lambda at: refused() if at > 1 else None)
            assert await endpoint.call(server) == "fine"
            await asyncio.sleep(2)
            failed = await ask(endpoint, server, 64)
            assert {type(each) for each in failed} == {openai.APIConnectionError}
            assert endpoint.lost.startswith("http://there has answered nobody for 1")
            # one pause more, and then one attempt each: those in the queue do not begin to be patient anew
            assert now() < 2 + 100 + 25 + 64 * 0.11

        run(main())

    def test_an_answer_ends_the_loss(self) -> None:
        async def main() -> None:
            endpoint, server = make(patience=10), Server(lambda at: refused() if 1 < at < 60 else None)
            await endpoint.call(server)
            await asyncio.sleep(2)
            await ask(endpoint, server, 1)
            assert endpoint.lost
            await asyncio.sleep(60)
            assert await endpoint.call(server) == "fine"
            assert not endpoint.lost

        run(main())

    def test_a_pause_longer_than_patience_is_not_waited_for(self) -> None:
        async def main() -> None:
            endpoint = make()
            (failed,) = await ask(endpoint, Server(lambda at: status(429, **{"retry-after": "86400"})), 1)
            assert isinstance(failed, openai.RateLimitError)
            assert endpoint.lost == "http://there asks for a pause of 86400 s (patience=600)"
            assert now() < 1

        run(main())

    def test_a_server_that_never_answered_is_given_up_soon(self) -> None:
        async def main() -> None:
            endpoint, server = make(), Server(lambda at: refused())
            (failed,) = await ask(endpoint, server, 1)
            assert isinstance(failed, openai.APIConnectionError)
            assert (len(server.asked), endpoint.alive, endpoint.lost) == (3, False, "")
            assert now() < 5  # 1 and 2 seconds, or a quarter more

        run(main())


class TestOneCall:
    def test_what_fails_while_others_succeed_counts_against_the_call(self) -> None:
        """Two further attempts; the others are not held up."""

        async def main() -> None:
            endpoint, fine = make(), Server(lambda at: None)
            poison = Server(lambda at: status(500))

            async def others() -> None:
                for _ in range(200):
                    await endpoint.call(fine)

            beside = asyncio.ensure_future(others())
            (failed,) = await ask(endpoint, poison, 1)
            assert isinstance(failed, openai.InternalServerError)
            assert len(poison.asked) == 3
            await beside
            assert now() < 21  # 200 calls of a tenth of a second, without a pause

        run(main())

    def test_status_500_for_all_is_waited_for_but_loses_no_server(self) -> None:
        async def main() -> None:
            endpoint = make()
            assert await endpoint.call(Server(lambda at: None)) == "fine"
            (failed,) = await ask(endpoint, Server(lambda at: status(500)), 1)
            assert isinstance(failed, openai.InternalServerError)
            assert not endpoint.lost
            assert 90 < now() < 90 + 26

        run(main())

    @pytest.mark.parametrize("code", [400, 401])
    def test_a_fault_of_the_request_is_not_tried_again(self, code: int) -> None:
        async def main() -> None:
            endpoint, server = make(), Server(lambda at: status(code))
            await ask(endpoint, server, 1)
            assert (len(server.asked), endpoint.alive) == (1, code == 400)

        run(main())

    def test_a_call_that_hangs_is_given_up_and_tried_once_more(self) -> None:
        async def main() -> None:
            asked: list[float] = []

            async def hang() -> str:
                asked.append(now())
                await asyncio.Event().wait()
                return ""

            (failed,) = await ask(make(timeout=300), hang, 1)
            assert str(failed) == "no reply within call_timeout=300 s"
            assert len(asked) == 2

        run(main())

    def test_a_reply_that_is_none_is_asked_for_again(self) -> None:
        async def main() -> None:
            server = Server(lambda at: UnusableReply("nothing"))
            (failed,) = await ask(make(), server, 1)
            assert isinstance(failed, UnusableReply)
            assert len(server.asked) == 3

        run(main())

    def test_a_call_that_is_cancelled_gives_its_place_to_the_next(self) -> None:
        async def main() -> None:
            endpoint = make()
            endpoint._most = 1
            hanging = [asyncio.ensure_future(endpoint.call(asyncio.Event().wait)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting = asyncio.ensure_future(endpoint.call(Server(lambda at: None)))
            await asyncio.sleep(1)
            for task in hanging:
                task.cancel()
            assert await waiting == "fine"
            assert endpoint._under_way == 0

        run(main())


class TestAddresses:
    def test_models_at_one_address_share_its_pace(self) -> None:
        pacing = Pacing()
        one, two, other = (
            load_chat_model(f"vllm:{name}@http://127.0.0.1:{port}")
            for name, port in (("a", 1), ("b", 1), ("a", 2))
        )
        assert pacing.endpoint(one) is pacing.endpoint(two)
        assert pacing.endpoint(one) is not pacing.endpoint(other)

    def test_models_without_an_address_are_on_their_own(self) -> None:
        pacing = Pacing()
        one, two = ScriptedChatModel(replies=[]), ScriptedChatModel(replies=[])
        assert pacing.endpoint(one) is pacing.endpoint(one) is not pacing.endpoint(two)

    def test_who_is_missing(self) -> None:
        async def main() -> None:
            pacing = Pacing()
            assert pacing.missing  # nobody was asked at all
            there, away = (pacing.endpoint(ScriptedChatModel(replies=[])) for _ in range(2))
            await ask(there, Server(lambda at: None), 1)
            assert not pacing.missing
            await ask(away, Server(lambda at: refused()), 1)
            assert pacing.missing

        run(main())


@pytest.mark.parametrize(
    ("failure", "fault"),
    [
        (status(429), "busy"),
        (status(503), "busy"),
        (status(500), "broken"),
        (status(502), "down"),
        (refused(), "down"),
        (ConnectionResetError(), "down"),
        (import_module("httpx2" if find_spec("httpx2") else "httpx").ReadError("torn off"), "down"),
        (openai.APITimeoutError(request=REQUEST), "late"),
        (TimeoutError(), "late"),
        (UnusableReply("nothing"), "unusable"),
        (status(400), "request"),
        (status(401), "refused"),
        (ValueError("no"), "refused"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_what_a_failure_says_of_its_server(failure: Exception, fault: str) -> None:
    assert fault_of(failure) == fault


def test_when_a_server_wants_to_be_asked_again() -> None:
    assert retry_after(status(429, **{"retry-after": "2.5"})) == 2.5
    assert retry_after(status(429, **{"retry-after": "9", "retry-after-ms": "1500"})) == 1.5
    date = retry_after(status(429, **{"retry-after": formatdate(time.time() + 100, usegmt=True)}))
    assert date is not None
    assert 90 < date <= 100
    assert retry_after(status(429, **{"retry-after": "soon"})) is None
    assert retry_after(status(429)) is None
    assert retry_after(refused()) is None
