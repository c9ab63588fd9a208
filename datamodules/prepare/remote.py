"""What a data set says of files on the network; read before anything slow is imported."""

from typing import NamedTuple

DOWNLOADS = "downloads"
"""The folder of archives in a data set's."""


class RemoteFile(NamedTuple):
    """A file on the network, and the md5 of its content."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]
