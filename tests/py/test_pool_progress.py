"""`progress=True`: on standard error, with what is installed."""

import importlib.util
import itertools
import sys

import pytest

import atoll

BARS = {"rich": ["rich.progress"], "tqdm": ["tqdm", "tqdm.auto"]}


def only(bar, monkeypatch):
    """As if of all bars this alone, or none, were installed."""
    for name, modules in BARS.items():
        for module in modules:
            if name == bar:
                pytest.importorskip(module)
            else:
                monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("bar", ["rich", "tqdm", None])
@pytest.mark.parametrize("endless", [False, True])
def test_progress(bar, endless, capsys, monkeypatch):
    only(bar, monkeypatch)
    items = (n for n in range(5)) if endless else range(5)
    with atoll.Pool(1, model="threads") as pool:
        assert list(pool.map(abs, items, progress=True)) == list(range(5))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err
    if bar != "rich":
        assert ("5it" if bar and endless else "5" if endless else "5/5") in told.err


@pytest.mark.parametrize("bar", ["rich", "tqdm", None])
def test_without_standard_error_there_is_no_bar(bar, monkeypatch):
    only(bar, monkeypatch)
    with atoll.Pool(1, model="threads") as pool:
        monkeypatch.setattr(sys, "stderr", None)
        assert list(pool.map(abs, range(5), progress=True)) == list(range(5))
        results = pool.imap_unordered(abs, range(5), progress=True, chunksize=1)
        assert sorted(results) == list(range(5))


def test_a_count_tells_how_far_it_came(capsys, monkeypatch):
    for module in itertools.chain(*BARS.values()):
        monkeypatch.setitem(sys.modules, module, None)
    with atoll.Pool(1, model="threads") as pool:
        results = pool.map(lambda n: 1 // (2 - n), range(5), progress=True)
        with pytest.raises(ZeroDivisionError):
            list(results)
    assert capsys.readouterr().err == "2/5\n"


def test_a_notebook_without_widgets_has_a_bar_of_text(capsys, monkeypatch):
    """Rich would warn, and show nothing."""
    console = pytest.importorskip("rich.console")
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with atoll.Pool(1, model="threads") as pool:
        assert list(pool.map(abs, range(5), progress=True)) == list(range(5))
    assert "5/5" in capsys.readouterr().err
