"""Other people's tests, run inside atoll's interpreters: writes docs/suites.md.

For each package, its own tests are run by pytest three times over: once in the main
interpreter of a process, and then, in another process, in two of atoll's interpreters
at the same time. The counts must be the same. Tests come with the wheel (numpy) or from
the source package on PyPI of the same version; the code that is tested is the wheel's.
The environment is that of tools/compat.py.

    suites.py               all
    suites.py numpy lxml    some, without writing the page
"""

import argparse
import datetime
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import compat

TIMEOUT_S = 900
SOURCES = compat.CACHE / "suites"


@dataclass(frozen=True)
class Suite:
    """The tests of a package.

    Attributes:
        name: The package as PyPI calls it.
        folder: Where the tests are: in site-packages, or in the source package.
        files: Those that are run, in `folder`; all if empty.
        from_source: The tests are in the source package only.
        options: More arguments of pytest.
        requires: What else to install.
    """

    name: str
    folder: str
    files: tuple[str, ...] = ()
    from_source: bool = True
    options: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()


SUITES = [
    # A bounded part: arrays, arithmetic, casts, linear algebra, random numbers.
    Suite(
        "numpy",
        "numpy",
        (
            *("_core/tests/test_multiarray.py", "_core/tests/test_umath.py"),
            *("_core/tests/test_dtype.py", "_core/tests/test_nditer.py"),
            "_core/tests/test_ufunc.py",
            *("linalg/tests/test_linalg.py", "random/tests/test_generator_mt19937.py"),
        ),
        from_source=False,
        options=("-m", "not slow"),
        requires=("hypothesis",),
    ),
    Suite("orjson", "test", requires=("numpy", "python-dateutil", "pytz")),
    # lxml runs what its functions `test_suite` name. Pytest would run the base classes
    # of the tests as well, which have no library to test.
    Suite(
        "lxml",
        "src/lxml/tests",
        options=(
            "-k",
            "not (_ETreeTestCaseBase or _XmlFileTestCaseBase or _IOTestCaseBase"
            " or _XMLPullParserTest or _ElementSlicingTest or _XIncludeTestCase"
            " or _C14NTest or test_suite)",
        ),
    ),
    Suite("msgspec", "tests/unit", requires=("attrs", "tomli-w")),
]


def unpack_source(venv: Path, suite: Suite, version: str) -> Path:
    """The tests of the package's source, in a folder that holds nothing else.

    Beside the package's own sources they would import those, which are not built.
    """
    home = SOURCES / f"{suite.name}-{version}"
    if not home.exists():
        with tempfile.TemporaryDirectory() as folder:
            where = ["--no-deps", "--no-binary", suite.name, "-d", folder]
            compat.pip(venv, "download", "-q", *where, f"{suite.name}=={version}")
            archive = next(Path(folder).glob("*.tar.gz"))
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            top = next(path for path in Path(folder).iterdir() if path.is_dir())
            home.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(top / suite.folder, home / f"{suite.name}_tests")
            for extra in ("data", "samples", "doc"):
                if (top / extra).is_dir():
                    shutil.copytree(top / extra, home / extra)
    return home / f"{suite.name}_tests"


def run(python: str, way: str, suite: Suite, where: Path) -> list[dict]:
    """The reports of one process; one that names the end of it where there is none."""
    targets = [str(where / file) for file in suite.files] or [str(where)]
    child = str(compat.CASES / "suite_child.py")
    with tempfile.TemporaryDirectory(prefix="atoll-suites-") as folder:
        command = ["nice", python, "-X", "faulthandler", child, way, folder]
        try:
            process = subprocess.run(
                [*command, *suite.options, *targets],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=compat.environment(),
                cwd=where.parent,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return [{"end": f"no end after {TIMEOUT_S} s"}]
        reports = [
            json.loads(p.read_text()) for p in Path(folder).glob(f"{way}-*.json")
        ]
        log = SOURCES / f"{suite.name}-{way}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(process.stdout)
        if process.returncode:
            reports.append(
                {"end": f"exit code {process.returncode}, see {log}"},
            )
        return reports


def words(report: dict) -> str:
    if "end" in report:
        return str(report["end"])
    return ", ".join(f"{report[k]} {k}" for k in ("passed", "failed", "skipped"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="PACKAGE")
    names = parser.parse_args().names
    chosen = [suite for suite in SUITES if not names or suite.name in names]
    cases = compat.table.load()
    compat.make_environment([cases[suite.name] for suite in chosen], True)
    venv = compat.CACHE / "compat" / compat.VERSION
    needs = {need for suite in chosen for need in suite.requires} | {"pytest"}
    compat.pip(venv, "install", "-q", "--only-binary", ":all:", *sorted(needs))
    versions = compat.installed(venv)
    lines, different = [], False
    for suite in chosen:
        version = versions[suite.name]
        if suite.from_source:
            where = unpack_source(venv, suite, version)
        else:
            library = next((venv / "lib").glob("python*"))
            where = library / "site-packages" / suite.folder
        python = compat.python_of(venv)
        plain = run(python, "plain", suite, where)
        inside = run(python, "atoll", suite, where)
        known = set(plain[0].get("failures", ()))
        new = sorted({f for r in inside for f in r.get("failures", ())} - known)
        cells = [words(report) for report in (*plain, *inside)]
        lines.append(f"| {suite.name} {version} | {' | '.join(cells)} |")
        print(lines[-1], *(f"  only inside: {name}" for name in new), sep="\n")
        different |= any(words(report) != words(plain[0]) for report in inside)
    if not names:
        write_page(lines, versions)
    sys.exit(1 if different else 0)


def write_page(lines: list[str], versions: dict[str, str]) -> None:
    version = re.sub(r"\+.*", "", versions.get("atoll", ""))
    setting = (
        f"CPython {platform.python_version()}, atoll {version}, {platform.machine()},"
        f" {datetime.date.today().isoformat()}."
    )
    page = [
        "# Other people's tests, inside interpreters",
        "",
        "Made by `tools/suites.py`: the tests of these packages, run by pytest in the",
        "main interpreter of a process, then in two of atoll's interpreters at once.",
        setting,
        "",
        "| package | main interpreter | first interpreter | second interpreter |",
        "|---|---|---|---|",
        *lines,
    ]
    (compat.DOCS / "suites.md").write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
