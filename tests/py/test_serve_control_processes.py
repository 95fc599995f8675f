"""One control listener for a server of several processes; nothing that it counts goes
back when one of them is killed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from serving import DEADLINE_S, Raw, Server, different, serving, wait_until
from test_serve_control import control, fetch, parse, wait_ready

import atoll

#: The first to start serves; the others wait in their startup for a file. /stuck keeps
#: the worker, and its GIL's turn, until another.
SOURCE = """
import asyncio
import os
import time

HERE = os.path.dirname(os.path.abspath(__file__))


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        try:
            os.close(os.open(HERE + "/first", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            while not os.path.exists(HERE + "/others"):
                await asyncio.sleep(0.005)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/stuck":
        open(HERE + f"/stuck-{scope['query_string'].decode()}", "w").close()
        while not os.path.exists(HERE + "/go"):
            time.sleep(0.005)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

CONTROL = ("--control-bind", "127.0.0.1:0")
MODELS = {
    "processes": ("--model", "processes", "--workers", "2"),
    "preload": ("--preload", "--workers", "2"),
    "both": ("--processes", "2", "--model", "interpreters", "--workers", "2"),
}


def look(port: int) -> dict[str, float]:
    status, text = fetch(port, "/metrics")
    assert status == 200, text
    return parse(text)


def total(samples: dict[str, float], name: str) -> float:
    """Of all workers, the control listener's left out."""
    return sum(
        value
        for key, value in samples.items()
        if key.startswith(name + "{") and 'worker="control"' not in key
    )


def check_no_step_back(before: dict[str, float], now: dict[str, float]) -> None:
    counters = ("_total", "_bucket", "_sum", "_count")
    for key, value in before.items():
        if key.partition("{")[0].endswith(counters):
            assert now[key] >= value, key


def ask_both(server: Server) -> set[int]:
    """Requests until both processes have answered; their numbers."""
    return different(server.connect, lambda raw: int(raw.get()[2]), 2)


@pytest.mark.parametrize("model", MODELS)
def test_all_processes_in_one_place(tmp_path: Path, model: str) -> None:
    (tmp_path / "others").touch()
    with serving(tmp_path, SOURCE, *CONTROL, *MODELS[model]) as server:
        port = control(server)
        wait_ready(port)
        assert fetch(server.port, "/ready")[1].isdigit()  # the application's
        processes = ask_both(server)
        samples = look(port)
        count = 4 if model == "both" else 2
        for worker in range(count):
            process = worker // (count // 2)
            labels = f'{{process="{process}",worker="{worker}"}}'
            assert samples["atoll_worker_up" + labels] == 1
            assert "atoll_requests_total" + labels in samples
            if model == "both" and "t" not in sys.abiflags:
                assert samples["atoll_worker_memory_bytes" + labels] > 1 << 20
        for process in range(2):
            assert samples[f'atoll_process_up{{process="{process}"}}'] == 1
            memory = samples[f'atoll_process_resident_bytes{{process="{process}"}}']
            assert memory > 1 << 20
        assert total(samples, "atoll_requests_total") >= 2
        assert samples['atoll_requests_total{worker="control"}'] >= 2
        assert len(processes) == 2
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == 0, server.log


@pytest.mark.parametrize("model", MODELS)
def test_a_killed_process_takes_no_count_with_it(tmp_path: Path, model: str) -> None:
    (tmp_path / "others").touch()
    with serving(tmp_path, SOURCE, *CONTROL, *MODELS[model]) as server:
        port = control(server)
        wait_ready(port)
        victim = min(ask_both(server))
        before = look(port)
        requests = total(before, "atoll_requests_total")
        os.kill(victim, signal.SIGKILL)
        end = time.monotonic() + DEADLINE_S
        deaths = 'atoll_restarts_total{reason="died"}'
        while True:
            now = look(port)
            check_no_step_back(before, now)
            before = now
            up = total(now, "atoll_worker_up")
            if now[deaths] == 1 and up == (4 if model == "both" else 2):
                break
            assert time.monotonic() < end, now
        assert total(now, "atoll_requests_total") >= requests
        # Who has an answer may have it before the server has noted that it has gone.
        wait_until(lambda: total(look(port), "atoll_running_requests") == 0)
        wait_ready(port)
        after = ask_both(server)
        assert victim not in after
        now = look(port)
        check_no_step_back(before, now)
        assert total(now, "atoll_requests_total") >= requests + 2


def test_nothing_goes_back_at_a_reload(tmp_path: Path) -> None:
    (tmp_path / "others").touch()
    with serving(tmp_path, SOURCE, *CONTROL, *MODELS["processes"]) as server:
        port = control(server)
        wait_ready(port)
        before = look(port)
        for _ in range(2):
            old = ask_both(server)
            server.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + DEADLINE_S
            while not old.isdisjoint(ask_both(server)):
                assert time.monotonic() < end
                now = look(port)
                check_no_step_back(before, now)
                assert now["atoll_ready"] == 1
                before = now
        assert look(port)['atoll_restarts_total{reason="reload"}'] == 4


def test_ready_when_all_processes_are(tmp_path: Path) -> None:
    with serving(tmp_path, SOURCE, *CONTROL, *MODELS["processes"]) as server:
        port = control(server)
        assert server.connect().get()[0] == 200
        for _ in range(5):
            assert fetch(port, "/ready") == (503, "workers are starting\n")
        assert fetch(port, "/health") == (200, "ok\n")
        assert look(port)["atoll_ready"] == 0
        (tmp_path / "others").touch()
        wait_ready(port)


@pytest.mark.parametrize("model", ["processes", "both"])
def test_stuck_processes_do_not_keep_it_from_being_answered(
    tmp_path: Path, model: str
) -> None:
    (tmp_path / "others").touch()
    with serving(tmp_path, SOURCE, *CONTROL, *MODELS[model]) as server:
        port = control(server)
        wait_ready(port)
        count = 4 if model == "both" else 2
        stuck = []
        for i in range(count):
            stuck.append(client := Raw(server.port))
            client.send(f"GET /stuck?{i} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until((tmp_path / f"stuck-{i}").exists)
        assert fetch(port, "/health") == (200, "ok\n")
        samples = look(port)
        assert total(samples, "atoll_running_requests") == count
        end = time.monotonic() + DEADLINE_S
        while (
            sum(
                look(port)[key] > 0
                for key in samples
                if key.startswith("atoll_worker_stuck_seconds{")
            )
            < count
        ):
            assert time.monotonic() < end
        (tmp_path / "go").touch()
        for client in stuck:
            assert client.answer()[0] == 200
            client.socket.close()


def wait_look(port: int, wanted: dict[str, float]) -> dict[str, float]:
    """Until those samples have those values."""
    end = time.monotonic() + DEADLINE_S
    while True:
        samples = look(port)
        if all(samples.get(key) == value for key, value in wanted.items()):
            return samples
        assert time.monotonic() < end, {key: samples.get(key) for key in wanted}
        time.sleep(0.01)


@pytest.mark.parametrize("model", ["processes", "preload"])
def test_a_process_that_was_stopped(tmp_path: Path, model: str) -> None:
    """It can tell nothing, and the others see it; the server is ready while one is."""
    (tmp_path / "others").touch()
    options = ("--replace-stuck-after", "0")
    with serving(tmp_path, SOURCE, *CONTROL, *options, *MODELS[model]) as server:
        port = control(server)
        wait_ready(port)
        first, second = ask_both(server)
        up = [f'atoll_process_up{{process="{i}"}}' for i in range(2)]
        stuck = [
            f'atoll_worker_stuck_seconds{{process="{i}",worker="{i}"}}'
            for i in range(2)
        ]
        wait_look(port, dict.fromkeys(up, 1))
        try:
            os.kill(first, signal.SIGSTOP)
            wait_until(lambda: sum(look(port)[key] for key in up) == 1)
            samples = look(port)
            number = next(i for i in range(2) if samples[up[i]] == 0)
            assert samples[stuck[number]] > 0
            assert look(port)[stuck[number]] > samples[stuck[number]]
            wait_ready(port)  # the other serves
            os.kill(second, signal.SIGSTOP)
            wait_look(port, {**dict.fromkeys(up, 0), "atoll_ready": 0})
            assert fetch(port, "/ready") == (503, "requests wait too long\n")
            os.kill(second, signal.SIGCONT)
            wait_ready(port)
        finally:
            for pid in (first, second):
                os.kill(pid, signal.SIGCONT)
        wait_look(port, dict.fromkeys(up, 1))


@pytest.mark.parametrize("model", ["processes", "both"])
def test_connections_are_counted_over_all_processes(tmp_path: Path, model: str) -> None:
    (tmp_path / "others").touch()
    options = ("--max-connections", "4", "--timeout-head", "0")
    clients: list[Raw] = []
    with serving(tmp_path, SOURCE, *CONTROL, *options, *MODELS[model]) as server:
        port = control(server)
        wait_ready(port)
        try:
            for i in range(4):  # of any process: none of them rests
                clients.append(Raw(server.port))
                line = f"GET /half?{i} HTTP/1.1\r\nHost: x\r\n"
                clients[-1].send(line.encode())
                end = time.monotonic() + DEADLINE_S
                while total(look(port), "atoll_connections") < i + 1:
                    assert time.monotonic() < end
            clients.append(Raw(server.port))
            status, _, body = clients[-1].get()
            assert status == 503
            assert b"too many connections" in body
            assert total(look(port), "atoll_refused_total") == 1
            for client in clients[:4]:
                client.send(b"\r\n")
                assert client.answer()[0] == 200
        finally:
            for client in clients:
                client.socket.close()


def test_every_process_answers_for_all_on_the_applications_port(tmp_path: Path) -> None:
    (tmp_path / "others").touch()
    options = ("--metrics-path", "/-/metrics", "--ready-path", "/-/ready")
    with serving(tmp_path, SOURCE, *options, *MODELS["processes"]) as server:
        server.wait_for("all 2 workers serve")
        ask_both(server)
        for _ in range(8):  # on new connections: both are asked
            samples = parse(fetch(server.port, "/-/metrics")[1])
            assert samples["atoll_ready"] == 1
            assert total(samples, "atoll_worker_up") == 2
            each = [
                samples[f'atoll_requests_total{{process="{i}",worker="{i}"}}']
                for i in range(2)
            ]
            assert min(each) >= 1
        assert fetch(server.port, "/-/ready") == (200, "ok\n")


def test_the_programs_own_numbers(tmp_path: Path) -> None:
    (tmp_path / "others").touch()
    (tmp_path / "counted_app.py").write_text(SOURCE)
    server = atoll.Server(
        "counted_app:app", app_dir=str(tmp_path), port=0, model="processes", workers=2
    )
    with server:
        end = time.monotonic() + DEADLINE_S
        while {w["state"] for w in server.stats()["workers"]} != {"serves"} or (
            len(server.stats()["workers"]) < 2
        ):
            assert time.monotonic() < end, server.stats()
            time.sleep(0.01)
        with Raw(server.addresses[0][1]) as client:
            process = int(client.get()[2])
        stats = server.stats()
        assert [w["worker"] for w in stats["workers"]] == [0, 1]
        processes = [w["process"] for w in stats["workers"]]
        assert process in processes and os.getpid() not in processes
        assert stats["workers"][processes.index(process)]["requests"] == 1
