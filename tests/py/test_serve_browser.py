"""A WebSocket chat in a real browser: headless Chromium, where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import DEADLINE_S, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

# Two sockets of one page talk to each other over the server. The page has loaded, and
# Chromium prints it, when its picture has come, which the server holds back until the
# transcript is written.
CHAT = '''
import asyncio
PAGE = b"""<!doctype html><title>chat</title><ul id=log></ul><img src=/held><script>
const log = line => {
  const item = document.createElement("li");
  item.textContent = line;
  document.getElementById("log").append(item);
};
const address = name => `ws://${location.host}/chat?${name}`;
const open = name => new Promise((done, failed) => {
  const socket = new WebSocket(address(name), ["chat.v2", "chat.v1"]);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => done(socket);
  socket.onerror = () => failed(new Error(name));
});
const next = socket => new Promise(done => {
  socket.onmessage = event => done(event.data);
});
const closed = socket => new Promise(done => { socket.onclose = done; });
(async () => {
  const ann = await open("ann"), bob = await open("bob");
  log(`protocol ${ann.protocol}, extensions ${ann.extensions.split(";")[0]}`);
  for (const [from, to, text] of [
    [ann, bob, "hello"], [bob, ann, "gr\\u00fc\\u00df dich \\ud83d\\udc4b"],
    [ann, bob, "x".repeat(200000)],
  ]) {
    const heard = next(to);
    from.send(text);
    const got = await heard;
    log(got.length > 100 ? `${got.length} characters` : got);
  }
  const heard = next(bob);
  ann.send(new Uint8Array([0, 127, 255]));
  log(`bytes ${new Uint8Array(await heard).join()}`);
  const end = closed(bob);
  ann.close(4001, "enough");
  const event = await end;
  log(`closed ${event.code} ${event.reason}`);
})().catch(error => log(`failed: ${error}`)).finally(() =>
  fetch("/written", {method: "POST"}));
</script>"""
sockets, written = {}, asyncio.Event()

async def chat(scope, receive, send):
    name = scope["query_string"].decode()
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "chat.v2"})
    sockets[name] = send
    while True:
        message = await receive()
        others = [other for key, other in sockets.items() if key != name]
        if message["type"] == "websocket.disconnect":
            del sockets[name]
            for other in others:
                await other({"type": "websocket.close", "code": 4002,
                             "reason": f"{name} left with {message['code']}"})
            return
        for other in others:
            await other({**message, "type": "websocket.send"})

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        return await chat(scope, receive, send)
    if scope["type"] != "http":
        raise RuntimeError
    body, kind = PAGE, b"text/html; charset=utf-8"
    if scope["path"] == "/written":
        written.set()
        body = b""
    elif scope["path"] != "/":
        await written.wait()
        body, kind = b"", b"image/png"
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
'''


@pytest.mark.parametrize("model", ["interpreters", "threads", "processes"])
def test_two_sockets_of_a_page_chat(tmp_path: Path, model: str) -> None:
    assert CHROMIUM is not None
    with serving(tmp_path, CHAT, "--model", model) as server:
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--dump-dom",
                server.url + "/",
            ],
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
    lines = re.findall(r"<li>(.*?)</li>", done.stdout)
    assert lines == [
        "protocol chat.v2, extensions permessage-deflate",
        "hello",
        "grüß dich 👋",
        "200000 characters",
        "bytes 0,127,255",
        "closed 4002 ann left with 4001",
    ], (done.stdout, done.stderr[-2000:], server.log)
