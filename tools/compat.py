"""The matrix of packages that work in interpreters: writes docs/compat.md.

Each case of tests/compat is run in a process of its own: in the main interpreter, in a
sub-interpreter as CPython makes them, and with atoll in two interpreters at once, which
are closed, then in two more, and the process has to exit cleanly. Works means: the
result is right, and the extension modules that main loaded were loaded there as well (a
package may fall back to Python code without a word).

The packages come from PyPI, as wheels only, into an environment of their own in the
cache folder (several GB); what is there already is left as it is. Results are kept as
JSON, docs/compat/VERSION.json, a file for each Python, and the page is made of all of
them.

    compat.py                       all, with the Python that runs this
    compat.py numpy lxml            some; the others' results stay
    compat.py --quick               the dozen that runs with every test
    compat.py --stages main         only whether the cases themselves are right
    compat.py --stages main,guard   what closed interpreters left is made inaccessible,
                                    and main does the case after them
    compat.py --backtrace           run what crashed again under gdb
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests" / "compat"
DOCS = ROOT / "docs"
CACHE = Path(
    os.environ.get("ATOLL_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "atoll"
).absolute()
STAGES = ("main", "plain", "atoll")
TIMEOUT_S = 240
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    VERSION += "t"

sys.path.insert(0, str(CASES))
import table  # noqa: E402

# ──── the environment ────


def python_of(venv: Path) -> str:
    return str(venv / "bin" / "python")


def pip(venv: Path, *arguments: str, check: bool = True) -> str:
    """Run pip in the environment; its error output."""
    run = subprocess.run(
        [
            "nice",
            python_of(venv),
            "-m",
            "pip",
            "--disable-pip-version-check",
            *arguments,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    if run.returncode and check:
        sys.exit(f"compat: pip {arguments[0]} failed:\n{run.stderr[-2000:]}")
    return run.stderr if run.returncode else ""


def installed(venv: Path) -> dict[str, str]:
    """Normalised name -> version of what the environment has."""
    packages = next((venv / "lib").glob("python*")) / "site-packages"
    return {
        re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(): found.version
        for found in distributions(path=[str(packages)])
    }


def install_packages(venv: Path, cases: list[table.Case]) -> dict[str, str]:
    """Install what the cases need, as wheels; case -> why it cannot be tried."""
    unavailable: dict[str, str] = {}
    present = installed(venv)
    wanted = {
        need: case.name
        for case in cases
        for need in (case.name, *case.requires)
        if re.sub(r"[-_.]+", "-", need).lower() not in present
    }
    while wanted:
        print(f"installing {len(wanted)} packages into {venv}", flush=True)
        error = pip(
            venv, "install", "-q", "--only-binary", ":all:", *wanted, check=False
        )
        if not error:
            break
        missing = re.search(r"No matching distribution found for ([\w.\-]+)", error)
        if missing and missing[1] in wanted:
            name = wanted.pop(missing[1])
            unavailable[name] = f"PyPI has no wheel of {missing[1]} for {VERSION}"
            continue
        # What cannot be had together is tried one by one.
        for need, name in wanted.items():
            if pip(venv, "install", "-q", "--only-binary", ":all:", need, check=False):
                unavailable[name] = f"{need} cannot be installed on {VERSION}"
        break
    return unavailable


def make_environment(cases: list[table.Case], atoll: bool) -> dict[str, str]:
    venv = CACHE / "compat" / VERSION
    if not (venv / "bin" / "pip").exists():
        base = [sys.executable, "-m", "venv", str(venv)]
        subprocess.run(base, check=True)
        pip(venv, "install", "-q", "-U", "pip")
    unavailable = install_packages(venv, cases)
    if atoll:
        tool = [sys.executable, str(ROOT / "tools" / "requirements"), "build", "run"]
        needs = subprocess.run(tool, check=True, capture_output=True, text=True).stdout
        pip(venv, "install", "-q", *needs.split())
        options = ["--no-build-isolation", "--no-deps", "--force-reinstall"]
        pip(venv, "install", "-q", *options, f"-Cbuild-dir=build/compat-{VERSION}", ".")
        smoke = [python_of(venv), "-c", "import atoll"]
        if subprocess.run(smoke, cwd=venv, env=environment()).returncode:
            sys.exit("compat: what was built does not import: nothing is tried")
    return unavailable


# ──── a case ────


def child_command(python: str, stage: str, name: str, folder: str) -> list[str]:
    child = str(CASES / "child.py")
    return [python, "-X", "faulthandler", child, stage, name, folder]


def environment(stage: str = "") -> dict[str, str]:
    # Modules that were imported from a checkout must not shadow the installed ones.
    return {
        **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        "PYTHONDONTWRITEBYTECODE": "1",
        # A case tests imports, not scaling: libraries need not start a pool of threads
        # for each core in each interpreter.
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        **({"ATOLL_HEAP_GUARD": "1"} if stage == "guard" else {}),
    }


def last_error(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [
        line
        for line in lines
        if re.match(r"[\w.]*(Error|Exception|Warning|Exit)\b|Fatal Python error", line)
    ]
    return (errors or lines or [""])[-1].strip()[:300]


def run_stage(python: str, stage: str, name: str, timeout: float) -> dict[str, object]:
    """Run one case in one stage, at most `timeout` seconds; its outcome, for the JSON.

    ``state`` is "works" or "fails"; a failure has ``cause``, and ``crash`` if a signal
    ended the process.
    """
    with tempfile.TemporaryDirectory(prefix="atoll-compat-") as folder:
        begin = time.monotonic()
        process = subprocess.Popen(
            child_command(python, stage, name, folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(stage),
            text=True,
            errors="replace",
            start_new_session=True,
            cwd=folder,
        )
        try:
            _, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
            return fails(f"no end after {timeout:g} s{at_step(folder)}", errors)
        outcome: dict[str, object] = {"seconds": round(time.monotonic() - begin, 1)}
        if process.returncode < 0:
            name_of_signal = signal.Signals(-process.returncode).name
            cause = f"{name_of_signal}{at_step(folder)}: {last_error(errors)}"
            return {**fails(cause, errors), "crash": True}
        if process.returncode:
            return fails(last_error(errors) + at_step(folder), errors)
        reports = [
            json.loads(path.read_text())
            for path in Path(folder).glob(f"{stage}-*.json")
        ]
        loaded = set.intersection(*(set(r["extensions"]) for r in reports))
        return {**outcome, "state": "works", "extensions": sorted(loaded)}


def at_step(folder: str) -> str:
    step = Path(folder) / "step"
    return f" ({step.read_text()})" if step.exists() else ""


def fails(cause: str, errors: str) -> dict[str, object]:
    packages = rf"{re.escape(str(CACHE))}\S*/site-packages/"
    cause = re.sub(packages, "", cause)  # the page is not of this machine
    return {"state": "fails", "cause": cause, "stderr": errors[-3000:]}


def compare(outcomes: dict[str, dict[str, object]]) -> None:
    """A stage that did without an extension module that main loaded does not count."""
    main = outcomes.get("main", {}).get("extensions", [])
    for stage in ("plain", "atoll"):
        outcome = outcomes.get(stage, {})
        lost = sorted(set(main) - set(outcome.get("extensions", [])))  # type: ignore[call-overload]
        if outcome.get("state") == "works" and lost:
            outcome["state"] = "fails"
            outcome["cause"] = f"fell back to Python code without {', '.join(lost[:3])}"


def run_case(
    python: str, name: str, stages: list[str], timeout: float = TIMEOUT_S
) -> dict[str, dict[str, object]]:
    outcomes: dict[str, dict[str, object]] = {}
    for stage in stages:
        outcomes[stage] = run_stage(python, stage, name, timeout)
        if stage == "main" and outcomes[stage]["state"] == "fails":
            break
    compare(outcomes)
    return outcomes


def backtrace(python: str, stage: str, name: str) -> str:
    """All threads' stacks where the case crashes in that stage, from gdb."""
    if not shutil.which("gdb"):
        return "no gdb here"
    with tempfile.TemporaryDirectory(prefix="atoll-compat-") as folder:
        command = child_command(python, stage, name, folder)
        script = ["-ex", "run", "-ex", "bt 40", "-ex", "thread apply all bt 12"]
        run = subprocess.run(
            ["gdb", "-batch", "-ex", "set pagination off", *script, "--args", *command],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment(stage) | {"DEBUGINFOD_URLS": ""},
            timeout=TIMEOUT_S,
        )
    return run.stdout[-20_000:]


# ──── results ────


INTRODUCTION = """\
Made by `make compat` (`tools/compat.py`); the cases are in `tests/compat`. Each does a
small real piece of work with the package's own wheel from PyPI and checks the result:
in the main interpreter; in a sub-interpreter as CPython makes them; and with atoll in
two interpreters at the same time, closed, then in two more, with the process exiting
cleanly. It works when the result is right and the extension modules that the main
interpreter loaded were loaded there too.
"""


def results_file(version: str = VERSION) -> Path:
    return DOCS / "compat" / f"{version}.json"


def kept_of(outcome: dict[str, object]) -> dict[str, object]:
    """What of an outcome goes into the JSON: of the extension modules, how many."""
    kept = {key: value for key, value in outcome.items() if key != "stderr"}
    if isinstance(loaded := kept.get("extensions"), list):
        kept["extensions"] = len(loaded)
    return kept


def save(
    venv: Path, outcomes: dict[str, dict[str, object]], unavailable: dict[str, str]
) -> None:
    file = results_file()
    kept = json.loads(file.read_text())["packages"] if file.exists() else {}
    versions = installed(venv)
    for name, stages in outcomes.items():
        known = re.sub(r"[-_.]+", "-", name).lower()
        kept[name] = {
            "version": versions.get(known, ""),
            **{stage: kept_of(outcome) for stage, outcome in stages.items()},
        }
    for name, why in unavailable.items():
        if "main" not in kept.get(name, {}):  # a result stays until there is another
            kept[name] = {"unavailable": why}
    report = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "atoll": versions.get("atoll", ""),
        "packages": dict(sorted(kept.items())),
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")


def state_of(package: dict[str, dict[str, object]], stage: str) -> str:
    return str(package.get(stage, {}).get("state", ""))


def write_page() -> None:
    """docs/compat.md out of the results of every Python."""
    reports = [
        json.loads(path.read_text()) for path in (DOCS / "compat").glob("*.json")
    ]
    reports.sort(key=lambda report: [int(n) for n in report["python"].split(".")])
    lines = [
        "# Which packages work in interpreters",
        "",
        INTRODUCTION,
        "| CPython | atoll | on | main | plain sub-interpreter | with atoll |",
        "|---|---|---|---|---|---|",
    ]
    for report in reports:
        packages = report["packages"].values()
        good = [p for p in packages if state_of(p, "main") == "works"]
        tried = [p for p in good if "plain" in p]
        plain = sum(state_of(p, "plain") == "works" for p in tried) if tried else "-"
        ours = sum(state_of(p, "atoll") == "works" for p in good)
        lines.append(
            f"| {report['python']} | {report['atoll']} | {report['date']},"
            f" {report['machine']}, {report['libc']} | {len(good)} | {plain} |"
            f" {ours} ({100 * ours / max(1, len(good)):.1f} %) |"
        )
    for report in reports:
        lines += page_of(report)
    (DOCS / "compat.md").write_text("\n".join(lines) + "\n")


def page_of(report: dict) -> list[str]:
    lines = ["", f"## CPython {report['python']}", ""]
    lines += [
        "| package | version | plain | atoll | extension modules |",
        "|---|---|---|---|---|",
    ]
    causes, left_out = [], []
    for name, package in report["packages"].items():
        if "unavailable" in package:
            left_out.append(f"- **{name}**: {package['unavailable']}")
            continue
        if state_of(package, "main") != "works":
            left_out.append(
                f"- **{name}** {package['version']} fails in main:"
                f" {package['main']['cause']}"
            )
            continue
        cells = []
        for stage in ("plain", "atoll"):
            outcome = package.get(stage, {})
            crash = "crashes" if outcome.get("crash") else "fails"
            state = outcome.get("state", "")
            cells.append({"works": "yes", "fails": crash}.get(state, "not run"))
            if stage == "atoll" and state == "fails":
                causes.append(
                    f"- **{name}** {package['version']}: `{outcome['cause']}`"
                )
        count = package["main"]["extensions"]
        lines.append(
            f"| {name} | {package['version']} | {' | '.join(cells)} | {count} |"
        )
    if causes:
        lines += ["", "What fails with atoll:", "", *causes]
    if left_out:
        lines += ["", "Not tried:", "", *left_out]
    return lines


# ──── the command ────


def choose(arguments: argparse.Namespace) -> list[table.Case]:
    cases = table.load()
    unknown = [name for name in arguments.names if name not in cases]
    if unknown:
        sys.exit(f"compat: no case for {', '.join(unknown)}")
    if arguments.names:
        return [cases[name] for name in arguments.names]
    if arguments.quick:
        return [case for case in cases.values() if case.quick]
    return [case for case in cases.values() if not case.large]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="PACKAGE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_S, help="seconds for a stage of a case"
    )
    parser.add_argument("--backtrace", action="store_true")
    parser.add_argument("--no-save", action="store_true", help="leave docs/ alone")
    parser.add_argument("--page", action="store_true", help="only write the page again")
    arguments = parser.parse_args()
    if arguments.page:
        return write_page()
    stages = arguments.stages.split(",")
    chosen = choose(arguments)
    unavailable = dict(table.WITHOUT_WHEEL)
    unavailable |= {
        case.name: "over a gigabyte: run `tools/compat.py " + case.name + "`"
        for case in table.CASES.values()
        if case.large and case not in chosen
    }
    unavailable |= make_environment(chosen, not {"atoll", "guard"}.isdisjoint(stages))
    venv = CACHE / "compat" / VERSION
    python = python_of(venv)
    todo = [case.name for case in chosen if case.name not in unavailable]
    outcomes: dict[str, dict[str, dict[str, object]]] = {}

    def run_and_show(name: str) -> None:
        outcomes[name] = run_case(python, name, stages, arguments.timeout)
        shown = [
            f"{stage} {o['state']}" + (f": {o['cause']}" if "cause" in o else "")
            for stage, o in outcomes[name].items()
            if stage != "plain" or stages == ["plain"]
        ]
        print(f"{name:24} {'; '.join(shown)}", flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(run_and_show, todo))
    if arguments.backtrace:
        for name, result in outcomes.items():
            for stage in ("atoll", "guard"):
                if result.get(stage, {}).get("crash"):
                    text = backtrace(python, stage, name)
                    print(f"──── {name}, {stage}\n{text}", flush=True)
    if not arguments.no_save and "atoll" in stages:
        save(venv, outcomes, unavailable)
        write_page()
    last = stages[-1]
    good = [o for o in outcomes.values() if state_of(o, "main") in ("works", "")]
    works = sum(state_of(o, last) == "works" for o in good)
    print(f"{len(todo)} tried: {len(good)} work in main, {works} of them in {last}")
    return None


if __name__ == "__main__":
    main()
