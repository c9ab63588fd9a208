"""The pair of encoders that stage 1 trains: a query encoder by gradient, a key encoder as its moving average."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qgnet.networks.encoders import Encoder


class ProjectedEncoder(nn.Module):
    """Encoder, global average pooling and a 2-layer projection (MoCo v2) to the unit sphere.

    Args:
        encoder: its high-level feature is pooled.
        dim: dimensions of the projection.
    """

    def __init__(self, encoder: Encoder, dim: int = 128) -> None:
        super().__init__()
        channels = encoder.high_channels
        self.encoder = encoder
        self.projection = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, dim))

    def descriptor(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised floats → (B, C), the pooled high-level feature."""
        return self.encoder.encode_high(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised floats → (B, dim) float32 of length 1."""
        return F.normalize(self.projection(self.descriptor(images)).float(), dim=1)


class MomentumPair(nn.Module):
    """MoCo's two encoders and its queue of negatives. The key encoder becomes the prior extractor.

    Args:
        encoder: starting point of both encoders.
        dim: dimensions of the embedding.
        queue_size: how many past keys serve as negatives (MoCo v2: 65,536; keep it below the number of images).
        momentum: of the key encoder's moving average (MoCo: 0.999).
        patch_queue: keep the keys of patches, too, in a queue of their own.
    """

    queue: Tensor
    patch_queue: Tensor | None
    queue_position: Tensor

    def __init__(
        self,
        encoder: Encoder,
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        patch_queue: bool = False,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.query = ProjectedEncoder(encoder, dim)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        generator = torch.Generator().manual_seed(0)  # the same in all processes
        for name, wanted in (("queue", True), ("patch_queue", patch_queue)):
            start = F.normalize(torch.randn(queue_size, dim, generator=generator), dim=1) if wanted else None
            self.register_buffer(name, start)
        self.register_buffer("queue_position", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def copy_query_to_key(self) -> None:
        """Make both encoders equal, after starting weights were loaded into the query encoder."""
        self.key.load_state_dict(self.query.state_dict())

    @torch.no_grad()
    def update_key(self) -> None:
        """One step of the moving average over the parameters; statistics of batch norm are the key's own."""
        for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
            key.lerp_(query, 1.0 - self.momentum)

    @torch.no_grad()
    def embed_keys(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, dim) keys, without gradient."""
        return self.key(images)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, patch_keys: Tensor | None = None) -> None:
        """Replace the oldest entries of the queue (N, dim) by ``keys`` (B, dim); the newest N if B exceeds N.

        Args:
            keys: of global views.
            patch_keys: (B, dim), for the queue of patches if there is one.
        """
        size = len(self.queue)
        keys = keys[-size:]
        slots = (self.queue_position + torch.arange(len(keys), device=keys.device)) % size
        self.queue[slots] = keys.to(self.queue.dtype)
        if self.patch_queue is not None:
            assert patch_keys is not None
            self.patch_queue[slots] = patch_keys[-size:].to(self.patch_queue.dtype)
        self.queue_position.copy_((self.queue_position + len(keys)) % size)
