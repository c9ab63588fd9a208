"""``qgnet serve``: a page on this machine where one paints an object and sees it found in all images."""

import argparse
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from qgnet.commands.model_options import add_model_options, model_of
from qgnet.common.errors import InputError


def add_parser(subcommands: Any) -> None:
    """Register the subcommand."""
    parser = subcommands.add_parser(
        "serve",
        description="Opens a page: paint an object in one or a few images of a folder, get the masks of all others, "
        "correct and download them. The work is saved in the folder itself (.qgnet-page).",
        epilog="example: qgnet serve images/",
    )
    parser.add_argument("images", type=Path, help="a folder, searched through")
    add_model_options(parser)
    parser.add_argument("--port", type=int, default=8000, help="port; 0: any free one (default 8000)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at (default 127.0.0.1: only this machine can open the page)",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="let in everybody who can reach the port, such as every user of this machine; by default the printed "
        "address holds a token that is needed",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C.

    Raises:
        InputError: if the folder, the model or the port cannot be used, or the extra ``web`` is not installed.
    """
    if not options.images.is_dir():
        raise InputError(f"{options.images} is not a folder. Give the folder of the images.")
    model = model_of(options)
    try:
        import uvicorn  # noqa: PLC0415

        from qgnet.web.server import make_app, new_token  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "fastapi", "pydantic", "starlette"):
            raise
        raise InputError(
            f"The page needs {error.name}, which is not installed: pip install 'qgnet-lightning[web]'"
        ) from None
    from qgnet.inference.segmenter import Segmenter  # noqa: PLC0415

    with listening(options.host, options.port) as listener:
        token = None if options.no_token else new_token()
        segmenter = Segmenter(**model)
        app = make_app(options.images, segmenter, options.host, token)
        for line in app.state.workspace.session.warnings:
            print(line, file=sys.stderr)
        print(f"Open {address(listener, options.host, token)}\nCtrl-C ends it; what you did is saved.", flush=True)

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                app.state.workspace.worker.close_events()
                super().handle_exit(sig, frame)

        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        Server(config).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that waits for browsers; InputError if there can be none."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--host {host} --port {port} cannot be used ({error}). Choose another port, e.g. --port {port + 1}, or "
            "--port 0 for any that is free."
        ) from None


def address(listener: socket.socket, host: str, token: str | None) -> str:
    """What to type into a browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    page = f"http://{name}:{listener.getsockname()[1]}/"
    return page if token is None else f"{page}?token={token}"
