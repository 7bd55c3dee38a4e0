"""A run of the solving graph as it happens, and its summary."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.status import Status
from rich.text import Text

from supercorrect_agent.cli.screen import (
    RIGHT,
    WRONG,
    SolutionWriter,
    print_critique,
    print_field,
)

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

STREAMED_NODES: Final = ("student_solve", "student_correct")
SURE: Final = ("accepted", "corrected")


class LiveRun:
    """Shows the events of one run. The spinner turns in a terminal only, and nothing is shown when silent."""

    def __init__(self, console: Console, *, silent: bool = False) -> None:
        self._console = console
        self._silent = silent
        self._spinner: Status | None = None
        self._writer: SolutionWriter | None = None
        self._heading = "student"
        self._text = ""  # the solution that the next critique is about

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_waiting()
        self._close_writer()

    def wait(self, what: str) -> None:
        """Says what is being waited for, until something else is shown."""
        self._stop_waiting()
        if self._console.is_terminal and not self._silent:
            self._spinner = self._console.status(Text(f"{what} ...", style="dim"))
            self._spinner.start()

    def on_message(self, chunk: BaseMessage, metadata: Mapping[str, Any]) -> None:
        """Shows a piece of what the student writes; a critic's text is shown once it has been read."""
        text = str(chunk.text)
        if text and not self._silent and metadata.get("langgraph_node") in STREAMED_NODES:
            self._write(text)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Shows a progress event of the graph."""
        if self._silent:
            return
        if event["event"] == "vote":
            self._show_vote(event)
        elif event["event"] in ("solution", "correction"):
            if self._writer is None:  # the model does not stream
                self._write(event["text"])
            self._close_writer()
            self._text = event["text"]
            self.wait("looking for the first wrong step")
        elif event["event"] == "critique":
            self._show_critique(event)

    def summarize(self, output: Mapping[str, Any], reason: str) -> None:
        """Prints how the run ended and what it took."""
        console, status = self._console, output["status"]
        console.print(Text("result", style="bold"))
        print_field(console, "Answer", output["answer"] or "none")
        print_field(console, "Status", f"{status} ({reason})", RIGHT if status in SURE else WRONG)
        for role, used in output["usage"].items():
            if not used["calls"]:
                continue
            calls = "1 call" if used["calls"] == 1 else f"{used['calls']} calls"
            tokens = f"{used['input_tokens']} in, {used['output_tokens']} out"
            print_field(console, "Tokens", f"{role}: {tokens} ({calls}, {used['seconds']:.1f} s)")
        print_field(console, "Seconds", f"{output['seconds']:.1f}")
        if output["store"]:
            print_field(console, "Trace", f"{output['trace_id']} in {output['store']}")

    def _show_vote(self, event: Mapping[str, Any]) -> None:
        self._stop_waiting()
        counts = ", ".join(f"{vote['answer']} ({vote['count']})" for vote in event["votes"]) or "no answer"
        print_field(self._console, "Samples", f"{counts}; {event['agreement']:.0%} agree")

    def _show_critique(self, event: Mapping[str, Any]) -> None:
        from supercorrect_agent.templates import parse_solution
        from supercorrect_agent.types import Critique

        self._stop_waiting()
        fields = {key: value for key, value in event.items() if key in Critique.model_fields}
        print_critique(self._console, Critique(**fields), parse_solution(self._text))
        self._heading = (
            "student, corrected"
            if event["step"] is None
            else f"student, after the corrected step {event['step']}"
        )
        self.wait("the student goes on")

    def _write(self, text: str) -> None:
        if self._writer is None:
            self._stop_waiting()
            self._console.print(Text(self._heading, style="bold"))
            self._writer = SolutionWriter(self._console)
        self._writer.write(text)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _stop_waiting(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
