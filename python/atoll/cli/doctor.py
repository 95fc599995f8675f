"""`atoll doctor`: which extension modules import in an interpreter, how, and why not.

Each module is tried in a child process of its own, so that one that crashes or hangs is
a line of the table.
"""

import importlib.machinery
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

import click

from atoll import __version__
from atoll._hazards import hazards_here

#: What a module can turn out to be, and how it is said.
RESULTS = {
    "image": "private image",
    "native": "native",
    "not": "does not work",
    "absent": "not in main either",
}


@dataclass
class Finding:
    """What came of one module.

    Attributes:
        module: its name.
        distribution: the installed distribution and version that it came with, or "".
        result: a key of RESULTS.
        reason: why it does not work, or "".
        images: the extension modules that got a private image.
        shared: those that did not need one.
        seconds: how long the trial took.
    """

    module: str
    distribution: str = ""
    result: str = "not"
    reason: str = ""
    images: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _top_module(distribution: importlib.metadata.Distribution, file: PurePath) -> str:
    """The module to import for the extension `file`: its outermost package."""
    parts = list(file.parts)
    for depth in range(1, len(parts)):
        package = distribution.locate_file("/".join([*parts[:depth], "__init__.py"]))
        if Path(str(package)).exists():
            return ".".join(parts[:depth])
    return ".".join([*parts[:-1], parts[-1].split(".", 1)[0]])


def installed_modules() -> dict[str, str]:
    """Modules of the environment that have extensions, each with its distribution."""
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name == "atoll":
            continue
        for file in distribution.files or ():
            # "pkg.libs/libx.so" is a library that the wheel brought along.
            if (
                file.name.endswith(suffixes)
                and file.parts[0] != ".."
                and not file.parts[0].endswith(".libs")
                and not file.name.startswith("lib")
            ):
                module = _top_module(distribution, file)
                found.setdefault(module, f"{name} {distribution.version}")
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _death(returncode: int) -> str:
    if returncode < 0:
        try:
            return f"the process died of {signal.Signals(-returncode).name}"
        except ValueError:
            return f"the process died of signal {-returncode}"
    return f"the process ended with exit code {returncode}"


def _probe(module: str, in_main: bool, timeout: float) -> tuple[list[Any], str]:
    """Run the child. Its reports, and how it died or '' where it ended well."""
    reader, writer = os.pipe()
    try:
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "atoll.cli.probe",
                str(writer),
                str(int(in_main)),
                module,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writer],
        ) as child:
            os.close(writer)
            writer = -1
            try:
                death = child.wait(timeout)
            except subprocess.TimeoutExpired:
                child.kill()
                death = 0
                ending = f"did not finish within {timeout:g} s"
            else:
                ending = _death(death) if death != 0 else ""
        with os.fdopen(reader, "rb") as pipe:
            reader = -1
            lines = pipe.read().splitlines()
    finally:
        for descriptor in (reader, writer):
            if descriptor >= 0:
                os.close(descriptor)
    return [json.loads(line) for line in lines], ending


def examine(module: str, distribution: str = "", timeout: float = 60.0) -> Finding:
    """Try `module` in two interpreters of a child process.

    Args:
        module: name of the module to import.
        distribution: where it comes from, for the report.
        timeout: seconds that the child may take.
    """
    started = time.monotonic()
    finding = Finding(module, distribution)
    reports, ending = _probe(module, False, timeout)
    errors = [report["error"] for report in reports if "error" in report]
    if not errors and not ending and len(reports) == 2:
        ways: dict[str, str] = reports[0]["ways"]
        finding.images = [name for name, way in ways.items() if way == "image"]
        finding.shared = [name for name, way in ways.items() if way == "shared"]
        finding.result = "image" if finding.images else "native"
    elif errors:
        finding.reason = errors[0]
        if len(reports) == 2 and len(errors) == 1:
            finding.reason += " (in the second interpreter only)"
    else:
        stage = ("importing it", "in the second interpreter", "closing interpreters")
        finding.reason = f"{ending or 'no report'}, {stage[min(len(reports), 2)]}"
    if finding.result == "not":
        main_reports, main_ending = _probe(module, True, timeout)
        main_error = next((r["error"] for r in main_reports if "error" in r), "")
        if main_error or main_ending:
            finding.result = "absent"
            finding.reason = main_error or main_ending
    finding.seconds = round(time.monotonic() - started, 3)
    return finding


def _static_tls() -> str:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for tunable in tunables.split(":"):
        name, _, value = tunable.partition("=")
        if name == "glibc.rtld.optional_static_tls":
            return value
    return "default"


def environment() -> dict[str, Any]:
    """What matters of this machine, as `--json` gives it."""
    return {
        "atoll": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "static_tls": _static_tls(),
        "hazards": [asdict(hazard) for hazard in hazards_here()],
    }


def _header(about: dict[str, Any]) -> Iterator[str]:
    gil = "free-threaded" if about["free_threaded"] else "with GIL"
    yield (
        f"atoll {about['atoll']}, Python {about['python']} {gil}, "
        f"{about['libc']}, {about['machine']}"
    )
    yield (
        f"static TLS: {about['static_tls']} (GLIBC_TUNABLES="
        "glibc.rtld.optional_static_tls=BYTES, set before Python starts)"
    )


def _detail(finding: Finding) -> str:
    if finding.reason:
        return finding.reason
    count = len(finding.images)
    return f"{count} image{'s' if count != 1 else ''}" if count else ""


def _print_plain(about: dict[str, Any], findings: list[Finding]) -> None:
    for line in _header(about):
        click.echo(line)
    for hazard in about["hazards"]:
        click.echo(f"hazard {hazard['name']}: {hazard['what']} {hazard['remedy']}")
    for finding in findings:
        fields = (finding.module, RESULTS[finding.result], _detail(finding))
        click.echo("\t".join(fields).rstrip("\t"))


def _print_rich(about: dict[str, Any], findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"image": "green", "native": "green", "not": "red", "absent": "yellow"}
    console = Console(highlight=False)
    for line in _header(about):
        console.print(escape(line))
    hazards = Table("hazard of this Python", "what atoll does about it", box=None)
    for hazard in about["hazards"]:
        hazards.add_row(escape(hazard["what"]), escape(hazard["remedy"]))
    console.print(hazards)
    table = Table("module", "from", "in an interpreter", "")
    for finding in findings:
        colour = colours[finding.result]
        table.add_row(
            escape(finding.module),
            escape(finding.distribution),
            f"[{colour}]{RESULTS[finding.result]}[/]",
            escape(_detail(finding)),
        )
    console.print(table)


def _examine_all(modules: Iterable[tuple[str, str]], timeout: float) -> list[Finding]:
    with ThreadPoolExecutor(os.process_cpu_count() or 1) as pool:
        return list(pool.map(lambda item: examine(item[0], item[1], timeout), modules))


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one module may take.",
)
def doctor(modules: tuple[str, ...], as_json: bool, timeout: float) -> None:
    """Say which modules work in an interpreter, how, and why not.

    Tries the MODULEs named, or else every installed one that has extensions: each in
    two interpreters of a child process. Exits with 1 when a MODULE that was named does
    not work.
    """
    installed = installed_modules()
    wanted = [(m, installed.get(m, "")) for m in modules] or list(installed.items())
    findings = _examine_all(wanted, timeout)
    about = environment()
    if as_json:
        found = [asdict(finding) for finding in findings]
        click.echo(json.dumps(about | {"modules": found}, indent=2))
    elif sys.stdout.isatty():
        _print_rich(about, findings)
    else:
        _print_plain(about, findings)
    if modules and any(f.result in {"not", "absent"} for f in findings):
        sys.exit(1)
