"""``supercorrect doctor``: what is installed, what is missing, and whether the offline default works."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from supercorrect_agent.cli.endings import EXIT_RUN_FAILED, leaving_at_once
from supercorrect_agent.errors import SuperCorrectError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from packaging.requirements import Requirement

PACKAGE = "supercorrect-agent"
SHOWN = (PACKAGE, "langgraph", "langchain", "langchain-core", "torch", "transformers", "trl", "peft")
APART = {"vllm": "in an environment of its own, on a machine with a GPU"}
FOR_DEVELOPERS = ("dev",)
LITTLE_DISK_GB = 2.0


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Check the installation.

    The exit code is 1 if the offline default, the sandbox student in this process, does not work.
    """
    with leaving_at_once():
        report = examine()
    report["ok"] = report["student"]["ok"]
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        print_report(report)
    if not report["ok"]:
        typer.echo(f"error: {report['student']['detail']}", err=True)
        raise typer.Exit(EXIT_RUN_FAILED)


def examine() -> dict[str, Any]:
    """Everything that is reported, by topic."""
    return {
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in SHOWN},
        "hardware": read_hardware(),
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "extras": read_extras(),
        "student": try_student(),
    }


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, read without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_hardware() -> dict[str, Any]:
    """CPU cores this process may use, and the GPU's name (None without one, or without torch)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        import torch

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    except (ImportError, OSError):  # OSError: a library of torch's own is missing
        gpu = None
    return {"cpu_cores": cores, "machine": platform.machine(), "gpu": gpu}


def read_extras() -> dict[str, dict[str, Any]]:
    """For each extra of this package: the requirements it lacks, and the command that installs them."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        return {}
    extras = package.metadata.get_all("Provides-Extra") or []
    return {
        extra: {"missing": missing_requirements(package, extra), "install": install_command(package, extra)}
        for extra in extras
        if extra not in FOR_DEVELOPERS
    }


def missing_requirements(package: Distribution, extra: str) -> list[str]:
    """The requirements of an extra that are not installed in a version it takes."""
    from packaging.requirements import Requirement

    missing = []
    for line in package.requires or []:
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            continue  # needed by every installation
        if not need.marker.evaluate({"extra": extra}):
            continue
        if need.name == PACKAGE:
            missing += [name for part in sorted(need.extras) for name in missing_requirements(package, part)]
        elif not _is_met(need):
            missing.append(f"{need.name}{need.specifier}")
    return missing


def _is_met(need: Requirement) -> bool:
    found = installed_version(need.name)
    return found is not None and need.specifier.contains(found, prereleases=True)


def install_command(package: Distribution, extra: str) -> str:
    """The pip command for an extra; a package installed from a source folder names that folder."""
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    target = f"'{PACKAGE}[{extra}]'"
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        target = f"{editable}'{unquote(urlsplit(origin['url']).path)}[{extra}]'"
    return f"{sys.executable} -m pip install {target}"


def try_student() -> dict[str, Any]:
    """Loads the packaged student and has it write one token."""
    started = time.perf_counter()
    try:
        from supercorrect_agent.models import load_chat_model

        load_chat_model("sandbox", max_tokens=1).invoke("2+3")
    except SuperCorrectError as error:
        return {"ok": False, "detail": str(error)}
    except Exception as error:  # whatever is broken is what a doctor is asked about
        reason = " ".join(str(error).split())
        return {"ok": False, "detail": f"{type(error).__name__}: {reason}. Install the package anew."}
    return {"ok": True, "detail": "loads and writes", "seconds": round(time.perf_counter() - started, 1)}


def print_report(report: dict[str, Any]) -> None:
    """Prints the findings, one a line."""
    from supercorrect_agent.cli.screen import RIGHT, WRONG, make_console, print_field

    console = make_console()
    print_field(console, "python", report["python"])
    for name, found in report["packages"].items():
        print_field(console, name, found or "not installed")
    hardware = report["hardware"]
    print_field(console, "CPU", f"{hardware['cpu_cores']} cores, {hardware['machine']}")
    print_field(console, "GPU", hardware["gpu"] or "none (the sandbox needs none)")
    disk = report["free_disk_gb"]
    little = ", which is little: training writes checkpoints" if disk < LITTLE_DISK_GB else ""
    print_field(console, "Free disk", f"{disk} GB{little}")
    for extra, state in report["extras"].items():
        if not state["missing"]:
            print_field(console, f"✓ extra {extra}", "installed", RIGHT)
            continue
        where = f" ({APART[extra]})" if extra in APART else ""
        text = f"needs {', '.join(state['missing'])}: {state['install']}{where}"
        print_field(console, f"- extra {extra}", text, "dim")
    student = report["student"]
    seconds = f" ({student['seconds']} s)" if student["ok"] else ""
    mark, style = ("✓", RIGHT) if student["ok"] else ("✗", WRONG)
    print_field(console, f"{mark} sandbox student", student["detail"] + seconds, style)
