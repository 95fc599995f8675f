"""HTTP/2 by h2spec, the conformance suite of RFC 9113 and RFC 7541.

It is in no package index: `go install github.com/summerwind/h2spec/cmd/h2spec@latest`
puts it on the PATH. TLS says by ALPN that HTTP/2 follows; without TLS the connection
preface does, and whatever else comes there is HTTP/1.1, which answers 400.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import Server, serving

pytest.importorskip("cryptography")
from certificates import Authority

H2SPEC = shutil.which("h2spec")
pytestmark = pytest.mark.skipif(H2SPEC is None, reason="h2spec is not on the PATH")

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello" * 20})
"""


def failures(server: Server, *options: str) -> list[str]:
    """The names of the cases that fail."""
    assert H2SPEC is not None
    run = subprocess.run(
        [H2SPEC, "-h", "127.0.0.1", "-p", str(server.port), *options],
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert re.search(r"^14\d tests,", run.stdout, re.M), run.stdout + run.stderr
    _, _, failed = run.stdout.partition("Failures:")
    return re.findall("\N{MULTIPLICATION SIGN} (.*)", failed)


def test_over_tls(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("server", "localhost")
    files = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    with serving(tmp_path, APP, *files) as server:
        assert failures(server, "-t", "-k") == []


def test_with_prior_knowledge(tmp_path: Path) -> None:
    with serving(tmp_path, APP) as server:
        assert failures(server) == ["2: Sends invalid connection preface"]
