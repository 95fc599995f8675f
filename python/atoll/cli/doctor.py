"""`atoll doctor`: which extension modules import in an interpreter, how, and why not.

Each module is tried in a child process of its own, so that one that crashes or hangs is
a line of the table.
"""

import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
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
                # The code of mypyc's modules lies in one that they import themselves.
                and not file.name.split(".", 1)[0].endswith("__mypyc")
            ):
                module = _top_module(distribution, file)
                found.setdefault(module, f"{name} {distribution.version}")
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _chosen(names: Iterable[str], installed: dict[str, str]) -> list[tuple[str, str]]:
    """(module, distribution) for what was named: modules, or distributions of PyPI.

    "yaml" is a module; "PyYAML" is not, but a distribution with one.
    """
    chosen: list[tuple[str, str]] = []
    for name in names:
        if name in installed or _is_module(name):
            chosen.append((name, installed.get(name, "")))
            continue
        wanted = _normalised(name)
        modules = [
            (module, distribution)
            for module, distribution in installed.items()
            if _normalised(distribution.split(" ")[0]) == wanted
        ]
        chosen += modules or [(name, "")]
    return list(dict.fromkeys(chosen))


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


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


def _header(about: dict[str, Any]) -> str:
    gil = "free-threaded" if about["free_threaded"] else "with GIL"
    return (
        f"atoll {about['atoll']}, Python {about['python']} {gil}, "
        f"{about['libc']}, {about['machine']}"
    )


def _detail(finding: Finding) -> str:
    if finding.reason:
        return finding.reason
    count = len(finding.images)
    return f"{count} image{'s' if count != 1 else ''}" if count else ""


def _summary(findings: list[Finding]) -> str:
    """How many work, and the names of those that do not."""
    bad = [finding for finding in findings if finding.result == "not"]
    tried = [finding for finding in findings if finding.result != "absent"]
    total = f"{len(tried)} module{'s' if len(tried) != 1 else ''}"
    lines = ["main can import none of this"]
    if tried:
        lines = [f"{len(tried) - len(bad)} of {total} that main can import work"]
    if bad:
        lines.append(f"does not work: {', '.join(finding.module for finding in bad)}")
    if any("static TLS" in finding.reason for finding in bad):
        lines.append(_about_static_tls())
    return "\n".join(lines)


def _about_static_tls() -> str:
    return (
        f"static TLS: {_static_tls()} (GLIBC_TUNABLES="
        "glibc.rtld.optional_static_tls=BYTES, set before Python starts)"
    )


def _hazards_text(about: dict[str, Any]) -> str:
    """The hazards of this Python, each in a paragraph."""
    lines = [f"What hurts several interpreters on CPython {about['python']}:"]
    for hazard in about["hazards"]:
        lines += ["", f"{hazard['name']}: {hazard['what']}"]
        lines += [f"  {hazard['remedy']}"]
    return "\n".join([*lines, "", _about_static_tls()])


def _print_plain(findings: Iterable[Finding]) -> list[Finding]:
    """A line for each finding, as it comes; all of them."""
    found = []
    for finding in findings:
        found.append(finding)
        fields = (finding.module, RESULTS[finding.result], _detail(finding))
        click.echo("\t".join(fields).rstrip("\t"))
    return found


def _print_rich(findings: Iterable[Finding], count: int) -> list[Finding]:
    """A table, with a bar until it is complete; the findings."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track
    from rich.table import Table

    colours = {"image": "green", "native": "green", "not": "red", "absent": "yellow"}
    console = Console(highlight=False)
    table = Table("module", "from", "in an interpreter", "")
    found = []
    watched = track(findings, "importing", total=count, console=console, transient=True)
    for finding in watched:
        found.append(finding)
        colour = colours[finding.result]
        table.add_row(
            escape(finding.module),
            escape(finding.distribution),
            f"[{colour}]{RESULTS[finding.result]}[/]",
            escape(_detail(finding)),
        )
    console.print(table)
    return found


def _examine_all(
    modules: Iterable[tuple[str, str]], timeout: float
) -> Iterator[Finding]:
    """The findings in the order of the modules, each as soon as it is there."""
    with ThreadPoolExecutor(os.process_cpu_count() or 1) as pool:
        yield from pool.map(lambda item: examine(item[0], item[1], timeout), modules)


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--hazards", is_flag=True, help="Say what hurts interpreters on this Python."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one module may take.",
)
def doctor(
    modules: tuple[str, ...], as_json: bool, hazards: bool, timeout: float
) -> None:
    """Say which modules work in an interpreter, how, and why not.

    Tries the MODULEs named (or the distributions: "yaml" or "PyYAML"), or else every
    installed one that has extensions: each in two interpreters of a child process.
    With --hazards and no MODULE, nothing is tried. Exits with 1 when a MODULE that was
    named does not work.
    """
    about = environment()
    wanted: list[tuple[str, str]] = []
    if modules or as_json or not hazards:
        installed = installed_modules()
        wanted = _chosen(modules, installed) if modules else list(installed.items())
    trials = _examine_all(wanted, timeout)
    if as_json:
        findings = list(trials)
        found = [asdict(finding) for finding in findings]
        click.echo(json.dumps(about | {"modules": found}, indent=2))
    else:
        findings = _say(about, trials, len(wanted), hazards)
    if modules and any(f.result in {"not", "absent"} for f in findings):
        sys.exit(1)


def _say(
    about: dict[str, Any], trials: Iterable[Finding], count: int, hazards: bool
) -> list[Finding]:
    """Print the report for a person: what was asked for, then what is good to know."""
    click.echo(_header(about))
    findings: list[Finding] = []
    if count:
        if sys.stdout.isatty():
            findings = _print_rich(trials, count)
        else:
            findings = _print_plain(trials)
        click.echo(_summary(findings))
    elif not hazards:
        click.echo("no installed package has an extension module")
    if hazards:
        click.echo(_hazards_text(about))
    else:
        click.echo(
            f"{len(about['hazards'])} hazards of this Python, and what stands against "
            "each: atoll doctor --hazards"
        )
    return findings
