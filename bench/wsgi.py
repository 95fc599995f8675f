"""The server's WSGI side against its peers, measured as bench/serve.py measures ASGI.

python bench/wsgi.py [--rounds 3] [--seconds 3] [--workers 1,2] [--threads 4]
"""

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import serve
from _needs import need

HELLO = """
def app(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain"), ("content-length", "13")])
    return [b"Hello, world!"]
"""
SERVERS = {
    "atoll": "{bin}/atoll serve main:app --interface wsgi --port {port} --workers {n}"
    " --threads THREADS --log-level warning",
    "atoll-processes": "{bin}/atoll serve main:app --interface wsgi --port {port}"
    " --workers {n} --threads THREADS --log-level warning --model processes",
    "atoll-preload": "{bin}/atoll serve main:app --interface wsgi --port {port}"
    " --workers {n} --threads THREADS --log-level warning --preload",
    "granian": "{bin}/granian --interface wsgi main:app --port {port} --workers {n}"
    " --blocking-threads THREADS --log-level warning",
    "gunicorn": "{bin}/gunicorn main:app --bind 127.0.0.1:{port} --workers {n}"
    " --worker-class gthread --threads THREADS --log-level warning",
    "gunicorn-preload": "{bin}/gunicorn main:app --bind 127.0.0.1:{port} --workers {n}"
    " --worker-class gthread --threads THREADS --log-level warning --preload",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--servers", default="atoll,granian,gunicorn")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--threads", default="4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    names = [name.partition("-")[0] for name in options.servers.split(",")]
    need([name for name in names if name != "atoll"], ["wrk"])
    serve.SERVERS = {
        name: command.replace("THREADS", options.threads)
        for name, command in SERVERS.items()
    }
    rows: dict[tuple[str, int], list[serve.Figures]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "main.py").write_text(HELLO)
        for _ in range(options.rounds):
            for name in options.servers.split(","):
                for workers in map(int, options.workers.split(",")):
                    figures = serve.measure(
                        name, workers, folder, "/", None, options.seconds
                    )
                    rows.setdefault((name, workers), []).append(figures)
    fields = [field.name for field in dataclasses.fields(serve.Figures)]
    print("server       " + "  ".join(f"{name:>18}" for name in fields))
    for (name, workers), all_ in rows.items():
        medians = [
            statistics.median(getattr(f, field) for f in all_) for field in fields
        ]
        print(f"{name:9}x {workers} " + "  ".join(f"{m:18.2f}" for m in medians))


if __name__ == "__main__":
    main()
