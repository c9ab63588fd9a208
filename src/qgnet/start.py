"""How the ``lightning`` command starts: Ctrl-C is heeded from the first import on."""

from importlib import import_module

from qgnet.boundary import boundary


def lightning() -> None:
    """The ``lightning`` command."""
    with boundary("Nothing was written yet."):
        import_module("qgnet.cli").main()
