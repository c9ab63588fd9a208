"""Lightning's Trainer, whose limits tell 1, one batch, from 1.0, all of them."""

from datetime import timedelta
from typing import Any

import pytorch_lightning as pl

Limit = int | float | None
"""So many batches, or their share in [0, 1]. Whole numbers are looked for first: ``Union[int, float]``, as Lightning
writes it, has the order of whichever equal union any library has made before (`typing` keeps one of them)."""


class Trainer(pl.Trainer):
    """As Lightning's; only the types of these settings, by which command line and YAML are read, are our own.

    Args:
        limit_train_batches: batches of an epoch: 1 is one, 1.0 all of them.
        limit_val_batches: batches of each validation loader, likewise.
        limit_test_batches: batches of each test loader, likewise.
        limit_predict_batches: batches of each loader of a prediction, likewise.
        overfit_batches: train and validate on so many batches, or this share; 0.0 does not.
        val_check_interval: batches between two validations, a share of the epoch, or a time.
        kwargs: Lightning's other settings.
    """

    def __init__(
        self,
        *,
        limit_train_batches: Limit = None,
        limit_val_batches: Limit = None,
        limit_test_batches: Limit = None,
        limit_predict_batches: Limit = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: Limit | str | timedelta | dict[str, int] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            val_check_interval=val_check_interval,
            **kwargs,
        )
