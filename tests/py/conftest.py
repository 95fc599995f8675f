"""What every test here can rely upon."""

import signal
from collections.abc import Iterator

import pytest

import atoll

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit
# that: tests that send one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MODELS = ("interpreters", "threads", "processes")


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """Each test once for every model of a pool."""
    model: str = request.param
    return model


@pytest.fixture
def pool(model: str) -> Iterator[atoll.Pool]:
    """A pool of two workers."""
    with atoll.Pool(2, model=model) as pool:  # type: ignore[arg-type]
        yield pool


@pytest.fixture(params=MODELS)
def model_options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options of `atoll serve`: each test once for every model of its workers."""
    if request.param == "interpreters":
        return ()
    return "--model", request.param, "--workers", "2"
