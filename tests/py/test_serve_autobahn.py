"""WebSocket by the Autobahn|Testsuite, as a client that tries everything.

It runs on Python 2.7 only: `pip2.7 install autobahntestsuite` puts wstest on the PATH.
The cases of speed (9) and the large ones of compression are left to a run by hand.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import serving

WSTEST = shutil.which("wstest")
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "12.1.*", "13.1.*"]
APP = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
"""


@pytest.mark.slow
@pytest.mark.skipif(WSTEST is None, reason="wstest is not on the PATH")
def test_every_case(tmp_path: Path) -> None:
    assert WSTEST is not None
    reports = tmp_path / "reports"
    with serving(tmp_path, APP) as server:
        specification = {
            "outdir": str(reports),
            "servers": [{"agent": "atoll", "url": f"ws://127.0.0.1:{server.port}"}],
            "cases": CASES,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (tmp_path / "spec.json").write_text(json.dumps(specification))
        subprocess.run(
            [WSTEST, "-m", "fuzzingclient", "-s", "spec.json"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    results = json.loads((reports / "index.json").read_text())["atoll"]
    assert len(results) > 250
    # Not strict: what came before a broken frame may be left unanswered.
    fine = {"OK", "NON-STRICT", "INFORMATIONAL"}
    assert {
        case: result
        for case, result in results.items()
        if result["behavior"] not in fine or result["behaviorClose"] not in fine
    } == {}
