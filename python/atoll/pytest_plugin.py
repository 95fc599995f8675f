"""``pytest --atoll N``: a suite's files, spread over N interpreters of one process.

Each interpreter has its own GIL, its own modules and its own session fixtures; a file's
tests run together, in their order, in one interpreter. Collection is done in the main
interpreter first, so that ``-k``, ``-m`` and node IDs select as always, and the reports
come back to it, so that ``-v``, ``-r``, ``--junitxml`` and ``-x`` work as always.

What it cannot do: isolate a crash (the interpreters are one process); ``--pdb``;
capture what C code writes to file descriptors, which belong to the process
(``--capture=fd`` becomes ``sys``); session fixtures shared by files (they are made for
each file). Tests that change the process itself (the working directory, the environment
of C code, signal handlers, `os.fork`) see each other or are refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

import atoll

__all__: list[str] = []

_REPORT, _START, _FINISH, _ERROR, _DONE = range(5)

#: Options that mean something to the process as a whole, or to the terminal.
_NOT_PASSED_ON = {"atoll", "usepdb", "trace", "plugins", "pastebin", "collectonly"}


_LOADED = "ignore:Module already imported so cannot be rewritten; atoll"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--atoll``."""
    parser.getgroup("atoll").addoption(
        "--atoll",
        type=int,
        default=0,
        metavar="N",
        help="run the test files in N interpreters of this process, in parallel",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot work, before anything runs."""
    count = config.getoption("atoll")
    if count < 0:
        raise pytest.UsageError("--atoll needs a number of interpreters")
    if count and config.getoption("usepdb"):
        raise pytest.UsageError("--pdb does not work with --atoll: run without it")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that interpreters are used, and what they share."""
    count = config.getoption("atoll")
    if not count:
        return None
    return f"atoll: {count} interpreters, one process; a crash of one ends all"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the collected tests in interpreters instead of here."""
    count = session.config.getoption("atoll")
    if not count or session.config.option.collectonly:
        return None
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    _Run(session).in_interpreters(count)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
    return True


class _Run:
    """One run of a session's tests; lives in the main interpreter."""

    def __init__(self, session: pytest.Session) -> None:
        self.session = session
        self.files: Iterator[list[str]] = iter(
            [
                [item.nodeid for item in items]
                for _, items in groupby(session.items, lambda item: item.path)
            ]
        )
        self.lock = threading.Lock()
        self.stopped = False
        self.reports: Any = atoll.Channel(capacity=1024)

    def in_interpreters(self, count: int) -> None:
        options = _options(self.session.config)
        with contextlib.ExitStack() as stack:
            # Open until the last report is read: a channel ends with those who send.
            interpreters = [
                stack.enter_context(atoll.Interpreter(name=f"pytest-{n}"))
                for n in range(count)
            ]
            threads = [
                threading.Thread(target=self._feed, args=(it, options), name=it.name)
                for it in interpreters
            ]
            for thread in threads:
                thread.start()
            try:
                for _ in threads:
                    self._until_one_is_done()
            finally:
                self.stopped = True
                for thread in threads:
                    thread.join()

    def _feed(self, interpreter: atoll.Interpreter, options: dict[str, Any]) -> None:
        """Thread: give one interpreter file after file."""
        try:
            while (nodeids := self._next_file()) is not None:
                interpreter.call(_run_file, options, nodeids, self.reports)
        except BaseException as error:
            self.reports.send((_ERROR, f"{type(error).__name__}: {error}"))
        finally:
            self.reports.send((_DONE, None))

    def _next_file(self) -> list[str] | None:
        with self.lock:
            return None if self.stopped else next(self.files, None)

    def _until_one_is_done(self) -> None:
        hook, config = self.session.config.hook, self.session.config
        while True:
            kind, data = self.reports.recv()
            if kind == _REPORT:
                hook.pytest_runtest_logreport(
                    report=hook.pytest_report_from_serializable(
                        config=config, data=data
                    )
                )
            elif kind == _START:
                hook.pytest_runtest_logstart(nodeid=data[0], location=data[1])
            elif kind == _FINISH:
                hook.pytest_runtest_logfinish(nodeid=data[0], location=data[1])
            elif kind == _ERROR:
                self.session.shouldstop = data
            else:
                return
            if self.session.shouldfail or self.session.shouldstop:
                self.stopped = True


def _options(config: pytest.Config) -> dict[str, Any]:
    """The command line's options for the interpreters: those that are plain values."""
    plain = (bool, int, float, str, type(None), list, tuple)
    options = {
        name: value
        for name, value in vars(config.option).items()
        if name not in _NOT_PASSED_ON and isinstance(value, plain)
    }
    options["capture"] = "sys" if config.option.capture == "fd" else "no"
    if config.option.capture in ("sys", "tee-sys"):
        options["capture"] = config.option.capture
    options["rootdir"] = str(config.rootpath)
    if config.inipath is not None:
        options["inifilename"] = str(config.inipath)
    # pytest rewrites the assertions of plugins, and warns of atoll: it is loaded
    # already where it runs a file. With `filterwarnings = error` that would be the end.
    options["pythonwarnings"] = [*(config.option.pythonwarnings or ()), _LOADED]
    # Selected already; the node IDs say which.
    options.update(keyword="", markexpr="", deselect=None, lf=False, failedfirst=False)
    return options


# ---- inside an interpreter ------------------------------------------------------------


class _Reporter:
    """Sends what happens home."""

    def __init__(self, config: pytest.Config, home: Any) -> None:
        self.config = config
        self.home = home

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self.home.send((_START, (nodeid, location)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(
            config=self.config, report=report
        )
        self.home.send((_REPORT, data))

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        self.home.send((_FINISH, (nodeid, location)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.home.send((_ERROR, f"collecting {report.nodeid}: {report.longrepr}"))

    def pytest_internalerror(self, excrepr: object) -> None:
        self.home.send((_ERROR, f"INTERNALERROR: {excrepr}"))


def _run_file(options: dict[str, Any], nodeids: list[str], home: Any) -> None:
    """Run the tests `nodeids` of one file; their reports go to the channel `home`."""
    from _pytest.config import Config

    root = options["rootdir"]
    options = {**options, "plugins": ["no:terminal", "no:faulthandler", "no:atoll"]}
    paths = [os.path.join(root, nodeid) for nodeid in nodeids]  # noqa: PTH118
    config = Config.fromdictargs(options, paths)
    config.pluginmanager.register(_Reporter(config, home), "atoll-reporter")
    try:
        config.hook.pytest_cmdline_main(config=config)
    finally:
        config._ensure_unconfigure()
