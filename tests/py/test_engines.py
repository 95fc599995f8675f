"""Engines of others on atoll's pool: joblib and scikit-learn, Dask."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def square(x: int) -> int:
    return x * x


def here(_: int = 0) -> int:
    """The interpreter that runs the task."""
    from atoll import _atoll

    return _atoll.interpreter_here()


class TestJoblib:
    @pytest.fixture(autouse=True)
    def _pools(self) -> Iterator[None]:
        pytest.importorskip("joblib")
        import atoll.joblib

        yield
        atoll.joblib.close_pools()

    def test_results_are_in_order_and_come_from_interpreters(self) -> None:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config(backend="atoll", n_jobs=2, model="interpreters"):
            assert Parallel()(delayed(square)(i) for i in range(200)) == [
                i * i for i in range(200)
            ]
            assert 0 not in Parallel()(delayed(here)(i) for i in range(8))

    def test_generators(self) -> None:
        from joblib import Parallel, delayed

        tasks = (delayed(square)(i) for i in range(20))
        results = Parallel(n_jobs=2, backend="atoll", return_as="generator")(tasks)
        assert list(results) == [i * i for i in range(20)]

    def test_an_error_reaches_the_caller(self) -> None:
        from joblib import Parallel, delayed

        with pytest.raises(ValueError, match="invalid literal"):
            Parallel(n_jobs=2, backend="atoll")(delayed(int)(x) for x in "12x4")
        assert Parallel(n_jobs=2, backend="atoll")(delayed(int)(x) for x in "1234") == [
            1,
            2,
            3,
            4,
        ]

    def test_grid_search_finds_what_it_finds_alone(self) -> None:
        pytest.importorskip("sklearn")
        from joblib import parallel_config
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC

        samples, classes = load_iris(return_X_y=True)
        grid = {"C": [0.1, 1, 10], "gamma": [0.01, 0.1]}
        alone = GridSearchCV(SVC(), grid, cv=3).fit(samples, classes)
        with parallel_config(backend="atoll", n_jobs=2, model="interpreters"):
            parallel = GridSearchCV(SVC(), grid, cv=3).fit(samples, classes)
        assert parallel.best_params_ == alone.best_params_
        assert (
            parallel.cv_results_["mean_test_score"].tolist()
            == alone.cv_results_["mean_test_score"].tolist()
        )


class TestDask:
    @pytest.fixture(autouse=True)
    def _pool(self) -> Iterator[None]:
        pytest.importorskip("dask")
        import atoll.dask

        yield
        atoll.dask.close_pool()

    def test_local_scheduler(self) -> None:
        pytest.importorskip("numpy")
        import dask
        import dask.array

        import atoll.dask

        ones = dask.array.ones((200, 200), chunks=(50, 100))
        total = (ones + ones.T).sum().compute(scheduler=atoll.dask.get)
        assert total == 80_000
        with atoll.Pool(2, "interpreters") as pool:
            where = dask.compute(
                *[dask.delayed(here)(i) for i in range(8)],
                scheduler=atoll.dask.get,
                pool=pool,
            )
        assert 0 not in where

    def test_local_scheduler_raises_what_the_task_raised(self) -> None:
        import dask

        import atoll.dask

        with pytest.raises(ZeroDivisionError):
            dask.delayed(divmod)(1, 0).compute(scheduler=atoll.dask.get)

    def test_two_workers_of_a_cluster(self) -> None:
        distributed = pytest.importorskip("distributed")

        import dask

        async def session() -> tuple[list[int], set[int], int, str]:
            preload = {"preload": ["atoll.dask"], "nthreads": 2, "host": "127.0.0.1"}
            async with (
                distributed.Scheduler(host="127.0.0.1", port=0, dashboard=False) as it,
                distributed.Worker(it.address, **preload),
                distributed.Worker(it.address, **preload),
                distributed.Client(it.address, asynchronous=True) as client,
            ):
                squares = await client.gather(client.map(square, range(40)))
                where = await client.gather(client.map(here, range(40), pure=False))
                total = await client.submit(sum, client.map(square, range(10)))
                with dask.annotate(executor="threads"):
                    asks = client.submit(lambda: distributed.get_worker().address)
                return squares, set(where), total, await asks

        squares, where, total, address = asyncio.run(asyncio.wait_for(session(), 120))
        assert squares == [i * i for i in range(40)]
        assert 0 not in where
        assert total == 285
        assert address.startswith("tcp://")


SUITE = {
    "test_good.py": "import os\ndef test_one(tmp_path):\n"
    "    (tmp_path / 'f').write_text('x')\n"
    "def test_where():\n    from atoll import _atoll\n"
    "    assert _atoll.interpreter_here() > 0\n",
    "test_bad.py": "import pytest\ndef test_fails():\n    assert [1, 2] == [1, 3]\n"
    "@pytest.mark.skip(reason='not now')\ndef test_skipped():\n    pass\n"
    "@pytest.mark.parametrize('n', [1, 2])\ndef test_n(n):\n    print('said', n)\n",
    "test_broken.py": "import no_such_module\n",
}


class TestPytest:
    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        for name, source in SUITE.items():
            (folder / name).write_text(source)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=240,
            check=False,
        )

    def test_files_run_in_interpreters(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, "--atoll", "2", "-rA", "test_good.py", "test_bad.py")
        assert run.returncode == 1, run.stderr
        assert "assert [1, 2] == [1, 3]" in run.stdout
        assert "1 failed, 4 passed, 1 skipped" in run.stdout
        assert "2 interpreters" in run.stdout

    def test_a_file_that_does_not_import_is_an_error(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, "--atoll", "2")
        assert "No module named 'no_such_module'" in run.stdout
        assert run.returncode == 2

    def test_warnings_may_be_errors(self, tmp_path: Path) -> None:
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        run = self.run(tmp_path, "--atoll", "2", "test_good.py")
        assert "2 passed" in run.stdout
        assert run.returncode == 0

    def test_selection_is_kept(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, "--atoll", "2", "test_bad.py", "-k", "test_n")
        assert "2 passed, 2 deselected" in run.stdout
        assert run.returncode == 0
