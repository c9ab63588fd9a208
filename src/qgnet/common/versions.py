"""Versions of the packages and the devices, for reports of faults. Imports nothing slow."""

import os
import platform
import shutil
import subprocess

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "numpy")
GPUS = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
SECONDS = 10
"""How long the driver's tool may take."""


def versions() -> list[str]:
    """Lines of a name and its version: Python, the packages that qgnet stands on, the system, the devices."""
    lines = {"python": platform.python_version(), **{package: installed(package) for package in PACKAGES}}
    lines |= {"system": platform.platform(), "cpu": f"{platform.machine()}, {os.cpu_count()} cores"}
    return [f"{name} {text}" for name, text in lines.items()] + [f"gpu {gpu}" for gpu in gpus() or ["none found"]]


def installed(package: str) -> str:
    """The version of a package, from its metadata: nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  (no other command needs it)

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def gpus() -> list[str]:
    """Name, driver and memory of each NVIDIA GPU, or how the driver's tool failed; none without the tool."""
    if shutil.which(GPUS[0]) is None:
        return []
    try:
        done = subprocess.run(GPUS, capture_output=True, text=True, check=True, timeout=SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        return [f"unknown: {error}"]  # a broken driver is what a report of a fault needs
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
