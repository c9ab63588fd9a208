"""The command qgnet serve: its address, its token, its mistakes."""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving import DISC, as_png

from qgnet.commands import main

pytest_plugins = ["serving"]

Ask = Callable[..., http.client.HTTPResponse]
SERVE = [sys.executable, "-c", "from qgnet.commands import main; main()", "serve"]


def test_mistakes_of_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.ckpt").write_bytes(b"")
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with it ignored
    started = subprocess.Popen([*SERVE, str(folder), "--port=0"], stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heeded)
    with started as process:
        port = urlsplit(opened(process).split()[1]).port
        for arguments, message in (
            ([str(tmp_path / "none")], "is not a folder"),
            ([str(folder), f"--port={port}"], "Choose another port"),
            ([str(folder), "--port=99999"], "Choose another port"),
            ([str(folder), "--port=0", f"--ckpt={tmp_path / 'none.ckpt'}"], "does not exist"),
        ):
            with pytest.raises(SystemExit) as ended:
                main(["serve", *arguments])
            assert ended.value.code == 2
            assert message in capsys.readouterr().err
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


def opened(process: subprocess.Popen) -> str:
    """The line with the address; what is not calibrated is told before it."""
    return next(line for line in process.stdout if line.startswith("Open "))


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen, Ask]]:
    """The real command on a folder, and a way to ask it as its page does; killed at the end."""
    command = [*SERVE, str(folder), "--port=0", "--image-size=65", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = urlsplit(opened(process).split()[1])
        token = address.query.removeprefix("token=")
        here = f"http://127.0.0.1:{address.port}"

        def ask(method: str, path: str, body: bytes = b"") -> http.client.HTTPResponse:
            headers = {"Origin": here, "Cookie": f"qgnet-token-{address.port}={token}"}
            headers["Content-Type"] = "application/json"
            request = urllib.request.Request(here + path, data=body or None, headers=headers, method=method)
            return urllib.request.urlopen(request, timeout=60)

        try:
            yield process, ask
        finally:
            process.send_signal(signal.SIGKILL)
            assert token not in process.stderr.read() if token else True


def until(events: http.client.HTTPResponse, text: str) -> list[str]:
    """Names of the events up to the one that holds the text."""
    seen = []
    while text not in (line := events.readline().decode()):
        assert line, f"the events ended before {text}"
        seen += [line.split()[1]] if line.startswith("event:") else []
    return seen


def test_a_killed_server_is_started_again_and_finds_everything(folder: Path) -> None:
    """SIGKILL in the middle of a second run: what was painted, set and found by the first is there, nothing is cut."""
    large = Image.open(folder / "a1.png").resize((1200, 800))
    for i in range(3, 9):
        large.save(folder / f"b{i}.png")
    with started(folder, "--host=0.0.0.0") as (process, ask):
        key = {one["name"]: one["key"] for one in json.load(ask("GET", "/api/session"))["images"]}
        ask("PUT", f"/api/images/{key['a0.png']}/mask.png?support=true", as_png(DISC))
        ask("PUT", "/api/settings", b'{"classes": [{"number": 1, "name": "disc"}], "thresholds": {"1": 0.3}}')
        events = ask("GET", "/api/events")
        ask("POST", "/api/segment", b"{}")
        seen = until(events, '"running": false, "done": 8, "total": 8')
        assert [event for event in seen if event != "job"] == ["learnt", *["result"] * 8]
        before = json.load(ask("GET", "/api/session"))
        refused = subprocess.run([*SERVE, str(folder), "--port=0"], capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert f"Another `qgnet serve` (process {process.pid}) works on" in refused.stderr
        ask("PUT", f"/api/images/{key['a0.png']}/mask.png?support=true", as_png(np.roll(DISC, 5)))
        ask("POST", "/api/segment", b"{}")
        until(events, "event: result")
        os.kill(process.pid, signal.SIGKILL)
    with started(folder) as (_, ask):
        after = json.load(ask("GET", "/api/session"))
        assert after["settings"] == before["settings"]
        for one, other in zip(before["images"], after["images"], strict=True):
            assert (one["name"], one["painted"]) == (other["name"], other["painted"])
            assert bool(one["outcome"]) == bool(other["outcome"])
        stale = [one["name"] for one in after["images"] if one["outcome"] and one["outcome"]["stale"]]
        assert 0 < len(stale) < 8  # found by the first run; the others by the second, as far as it came
        mask = Image.open(ask("GET", f"/api/images/{key['a0.png']}/mask.png"))
        assert np.array_equal(np.asarray(mask), np.roll(DISC, 5))
        with zipfile.ZipFile(io.BytesIO(ask("POST", "/api/download?formats=index").read())) as archive:
            assert archive.testzip() is None
            assert {f"{Path(name).stem}.png" for name in key} <= set(archive.namelist())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
@pytest.mark.parametrize("with_token", [True, False])
def test_the_address_holds_a_token(
    folder: Path, host: str, with_token: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apps = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: apps.append(self.config.app))
    main(
        ["serve", str(folder), "--port=0", "--image-size=65", f"--host={host}", *([] if with_token else ["--no-token"])]
    )
    address = urlsplit(capsys.readouterr().out.split("Open ")[1].split()[0])
    with TestClient(apps[0], base_url=f"http://{address.netloc}") as page:
        assert page.get("/api/session").status_code == (401 if with_token else 200)
        assert page.get(f"/?{address.query}").status_code == 200
        assert page.get("/api/session").status_code == 200
    assert len(address.query) > 30 if with_token else address.query == ""


def test_the_command_tells_of_a_broken_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: self.config.app.state.workspace.close())
    (folder / ".qgnet-page").mkdir()
    (folder / ".qgnet-page/session.json").write_text("{")
    main(["serve", str(folder), "--port=0", "--image-size=65"])
    assert "session.json cannot be read whole" in capsys.readouterr().err


def test_without_the_extra_the_command_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        f"import sys; sys.modules['uvicorn'] = None; from qgnet.commands import main; main(['serve', {str(folder)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'qgnet-lightning[web]'" in done.stderr
