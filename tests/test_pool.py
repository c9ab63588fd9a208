import subprocess
import sys
import time
from pathlib import Path

import pytest

from qgnet.commands import main as qgnet

KILLED = """
import os
import signal
from qgnet.common.pool import processes
pool = processes()
print(*{pool.submit(os.getpid).result() for _ in range(4)}, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def runs(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see whether a process runs")
def test_processes_end_with_the_one_that_started_them() -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    children = [int(number) for number in killed.stdout.split()]
    assert children
    deadline = time.monotonic() + 30
    while any(runs(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ctrl_c_ends_a_command_with_a_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qgnet.commands.report.run", pressed)
    with pytest.raises(SystemExit) as stop:
        qgnet(["report", "runs"])
    assert stop.value.code == 130
    assert "Run the same command again" in capsys.readouterr().err
