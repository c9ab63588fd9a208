"""The command qgnet serve: its address, its token, its mistakes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from test_serve import DISC, as_png

from qgnet.commands import main

SERVE = [sys.executable, "-c", "from qgnet.commands import main; main()", "serve"]


def test_mistakes_of_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.ckpt").write_bytes(b"")
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with it ignored
    started = subprocess.Popen([*SERVE, str(folder), "--port=0"], stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heeded)
    with started as process:
        address = process.stdout.readline().split()[1]
        port = address.rstrip("/").rsplit(":", 1)[1]
        for arguments, message in (
            ([str(tmp_path / "none")], "is no folder"),
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


def test_the_command_tells_a_page_what_happens(folder: Path) -> None:
    """Server-sent events of the real server; the token is in no log; killed and started again, all is there."""
    command = [*SERVE, str(folder), "--port=0", "--host=0.0.0.0", "--image-size=65"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[1]
        token = address.partition("?token=")[2]
        assert len(token) > 20
        port = address.rsplit(":", 1)[1].partition("/")[0]
        here = f"http://127.0.0.1:{port}"

        def ask(method: str, path: str, body: bytes = b"") -> object:
            headers = {"Origin": here, "Cookie": f"qgnet-token-{port}={token}", "Content-Type": "application/json"}
            request = urllib.request.Request(here + path, data=body or None, headers=headers, method=method)
            return urllib.request.urlopen(request, timeout=60)

        key = json.load(ask("GET", "/api/session"))["pictures"][0]["key"]
        ask("PUT", f"/api/pictures/{key}/mask.png?support=true", as_png(DISC))
        events = ask("GET", "/api/events")
        threading.Thread(target=lambda: (time.sleep(0.2), ask("POST", "/api/segment", b"{}"))).start()
        seen = []
        while '"running": false, "done": 2, "total": 2' not in (line := events.readline().decode()):
            seen += [line.split()[1]] if line.startswith("event:") else []
        assert [event for event in seen if event != "job"] == ["learnt", "result", "result"]
        os.kill(process.pid, signal.SIGKILL)
        assert process.stderr.read() == ""
    assert len((folder / ".qgnet-page/results.jsonl").read_text().splitlines()) == 2


def test_without_the_extra_the_command_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        f"import sys; sys.modules['uvicorn'] = None; from qgnet.commands import main; main(['serve', {str(folder)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'qgnet-lightning[web]'" in done.stderr
