"""What a server tells of itself: `Server.stats()`."""

import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from serving import DEADLINE_S, Raw, wait_until

import atoll

SOURCE = """
import os
import time

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only http")
    if scope["path"] == "/slow":
        while not os.path.exists(os.path.dirname(__file__) + "/go"):
            time.sleep(0.01)
    status = 404 if scope["path"] == "/no" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 100})
"""

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            answer.read()
            return answer.status  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def total(stats: atoll.ServerStats, key: str) -> int:
    return sum(worker[key] for worker in stats["workers"])  # type: ignore[literal-required, misc]


def states(server: atoll.Server) -> list[str]:
    """How its workers are: the others start when the first serves."""
    return [worker["state"] for worker in server.stats()["workers"]]


def wait_for_requests(server: atoll.Server, count: int) -> atoll.ServerStats:
    """The answer may be read before the server has noted that it sent it."""
    end = time.monotonic() + DEADLINE_S
    while True:
        stats = server.stats()
        answered = sum(worker["latency"]["count"] for worker in stats["workers"])
        if answered >= count and total(stats, "running") == 0:
            return stats
        assert time.monotonic() < end, stats
        time.sleep(0.01)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "stats_app.py").write_text(SOURCE)
    (tmp_path / "stats_wsgi.py").write_text(WSGI)
    return tmp_path


@pytest.mark.parametrize("module", ["stats_app", "stats_wsgi"])
def test_requests_are_counted_by_worker_and_class(app: Path, module: str) -> None:
    with atoll.Server(f"{module}:app", app_dir=str(app), port=0, workers=2) as server:
        for _ in range(5):
            assert get(server.url) == 200
        missing = 404 if module == "stats_app" else 200
        assert get(server.url + "/no") == missing
        wait_until(lambda: states(server) == ["serves", "serves"])
        stats = wait_for_requests(server, 6)
        assert total(stats, "requests") == 6
        assert total(stats, "accepted") == 6
        answered = {200: 0, 404: 0}
        for worker in stats["workers"]:
            answered[200] += worker["responses"]["2xx"]
            answered[404] += worker["responses"]["4xx"]
            assert worker["thread"] > 0
            assert worker["memory_bytes"] is None or worker["memory_bytes"] > 1 << 20
            latency = worker["latency"]
            counts = [below for _, below in latency["buckets"]]
            assert counts == sorted(counts)
            assert counts[-1] == latency["count"]
            assert latency["buckets"][-1][0] == float("inf")
        assert answered[missing] >= 1
        assert sum(answered.values()) == 6
        assert total(stats, "received_bytes") > 6 * 30
        assert total(stats, "sent_bytes") > 6 * 50
        assert stats["uptime"] > 0


def test_time_that_a_request_waits_is_seen(app: Path) -> None:
    """One worker, busy until it is told: what comes meanwhile waits, and so long."""
    with atoll.Server("stats_app:app", app_dir=str(app), port=0) as server:
        first = threading.Thread(target=get, args=(server.url + "/slow",))
        first.start()
        wait_until(lambda: server.stats()["workers"][0]["running"] == 1)
        with Raw(server.addresses[0][1]) as second:
            second.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.5)
            (app / "go").touch()
            assert second.answer()[0] == 200
        first.join(DEADLINE_S)
        [worker] = wait_for_requests(server, 2)["workers"]
        assert worker["latency"]["sum"] >= 0.3
        assert worker["queue_delay"]["count"] == 2
        assert worker["queue_delay"]["sum"] >= 0.25
        assert worker["gil_wait"]["count"] >= 1


def test_no_count_goes_back_at_a_reload(app: Path) -> None:
    with atoll.Server("stats_app:app", app_dir=str(app), port=0) as server:
        for _ in range(3):
            assert get(server.url) == 200
        before = wait_for_requests(server, 3)
        server.reload()
        end = time.monotonic() + DEADLINE_S
        thread = before["workers"][0]["thread"]
        while (now := server.stats()["workers"][0])["thread"] == thread:
            assert now["requests"] >= 3
            assert time.monotonic() < end
            time.sleep(0.01)
        assert get(server.url) == 200
        after = wait_for_requests(server, 4)
        assert after["workers"][0]["requests"] == 4
        assert after["restarts"]["reload"] == 1
        assert after["restarts"]["died"] == 0


def test_stats_of_a_server_that_does_not_run() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        atoll.Server("stats_app:app").stats()
