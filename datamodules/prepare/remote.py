"""Files on the network that a data set needs. Imports nothing slow."""

from typing import NamedTuple

DOWNLOADS = "downloads"
"""Folder for archives inside a data set's folder."""


class RemoteFile(NamedTuple):
    """A file on the network: its address and the md5 of its content."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file name: the last part of the address."""
        return self.url.rsplit("/", 1)[-1]
