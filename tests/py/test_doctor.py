"""`atoll doctor`: modules that work, refuse, crash, hang, or are not there."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
from click.testing import CliRunner
from sins import build

from atoll._hazards import HAZARDS, hazards_here
from atoll.cli import main
from atoll.cli.doctor import examine, installed_modules


def doctor(*arguments, path=None):
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from atoll.cli import main; main()",
            "doctor",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env=None
        if path is None
        else {"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin"},
    )
    assert result.stderr == ""
    return result


def test_private_image_and_native():
    result = doctor("--json", "global_state", "json", path=build("global_state"))
    assert result.returncode == 0
    report = json.loads(result.stdout)
    image, native = report["modules"]
    assert image["result"] == "image"
    assert image["images"] == ["global_state"]
    assert native["result"] == "native"
    assert native["images"] == []
    assert report["python"] == sys.version.split()[0]
    assert report["free_threaded"] in (True, False)


def test_module_that_crashes_is_a_line_with_the_signal():
    # It crashes in main too; still it is the child that dies, and the report goes on.
    result = doctor("crashes", "json", path=build("crash"))
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert "crashes\tnot in main either\tthe process died of SIGSEGV" in lines
    assert "json\tnative" in lines


def test_module_that_crashes_in_interpreters_only(tmp_path):
    (tmp_path / "picky.py").write_text(
        """
import os, signal
import _interpreters
if _interpreters.get_current()[0] != 0:
    os.kill(os.getpid(), signal.SIGABRT)
"""
    )
    result = doctor("--json", "picky", path=tmp_path)
    assert result.returncode == 1
    (module,) = json.loads(result.stdout)["modules"]
    assert module["result"] == "not"
    assert module["reason"] == "the process died of SIGABRT, importing it"


def test_module_that_refuses_says_why(tmp_path):
    (tmp_path / "refuses.py").write_text(
        """
import _interpreters
if _interpreters.get_current()[0] != 0:
    raise ImportError("only in main, please\\nmore")
"""
    )
    result = doctor("refuses", path=tmp_path)
    assert result.returncode == 1
    assert (
        "refuses\tdoes not work\tImportError: only in main, please"
        in result.stdout.splitlines()
    )


def test_module_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(build("crash")))
    finding = examine("hangs", timeout=2.0)
    assert finding.result == "absent"
    assert finding.reason == "did not finish within 2 s"


def test_module_that_is_absent():
    result = doctor("no_such_module_at_all")
    assert result.returncode == 1
    assert "No module named 'no_such_module_at_all'" in result.stdout
    assert "main can import none of this" in result.stdout


def test_modules_come_first_and_hazards_when_asked_for():
    lines = doctor("json", "math").stdout.splitlines()
    assert lines[0].startswith("atoll ")
    assert lines[1:3] == ["json\tnative", "math\tnative"]
    assert lines[3] == "2 of 2 modules that main can import work"
    assert lines[4].endswith("atoll doctor --hazards") and len(lines) == 5
    told = doctor("--hazards").stdout
    for hazard in hazards_here():
        assert f"{hazard.name}: {hazard.what}" in told
    assert "modules that main can import" not in told


def test_distribution_may_be_named_in_place_of_its_module(tmp_path):
    library = next(build("global_state").glob("global_state*.so"))
    shutil.copy(library, tmp_path)
    about = tmp_path / "Global.State_Things-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: Global.State_Things\nVersion: 1.5\n")
    (about / "RECORD").write_text(f"{library.name},,\n")
    result = doctor("--json", "global-state-things", path=tmp_path)
    assert result.returncode == 0
    (module,) = json.loads(result.stdout)["modules"]
    assert module["module"] == "global_state"
    assert module["distribution"] == "Global.State_Things 1.5"
    assert module["result"] == "image"


def test_installed_modules_are_packages_to_import():
    installed = installed_modules()
    assert "atoll" not in installed
    assert not any(".libs" in name for name in installed)
    for distribution, module in (
        ("numpy", "numpy"),
        ("cffi", "_cffi_backend"),
        ("pyyaml", "yaml"),
    ):
        try:
            version(distribution)
        except PackageNotFoundError:
            continue
        assert module in installed


def test_hazards_belong_to_versions():
    by_name = {hazard.name: hazard for hazard in HAZARDS}
    assert len(by_name) == len(HAZARDS)
    assert by_name["datetime"].applies_to((3, 13))
    assert not by_name["datetime"].applies_to((3, 14))
    assert {hazard.name for hazard in hazards_here()} <= set(by_name)


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"]])
def test_help(arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "doctor" in result.output
