"""The whole work on a GPU, without one: no tensors of two devices meet, and the host waits for it only where it must."""

import csv
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from conftest import Command, train_losses
from fake_data import write_images
from pretend_gpu import GPU, OnGpu, PretendGpu, pretend_gpu
from serving import DISC, browser, paint, segment, write_scenes
from torch._subclasses.fake_tensor import FakeTensorMode

import qgnet
from qgnet.commands import main as qgnet_command
from qgnet.losses import segmentation_loss
from qgnet.networks import qgnet as networks
from qgnet.networks.encoders import Encoder
from qgnet.networks.qgnet import QGNet
from qgnet.tasks.base import Task, normalise
from qgnet.tasks.episodic import EpisodicTask

ON_GPU = ["--trainer.accelerator=gpu", "--trainer.devices=1"]
PRECISIONS = ["32-true", "bf16-mixed", "16-mixed"]
STAGES = ["demo/qgnet.yaml", "demo/pretrain.yaml"]
RANDOM = {"encoder": "test_resnet", "encoder_weights": "random"}
WITHOUT_CALLBACKS = ["--pictures=null"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("config", STAGES)
def test_training_test_and_prediction_run_on_a_gpu(command: Command, config: str, precision: str) -> None:
    settings = [*ON_GPU, f"--trainer.precision={precision}", "--trainer.log_every_n_steps=1"]
    with pretend_gpu() as gpu:
        command("fit", config, *settings, "--run=runs/gpu")
        last = "--ckpt_path=runs/gpu/checkpoints/last.ckpt"
        command("test", config, *settings, last, "--run=runs/test")
        command("predict", config, *settings, last, "--run=runs/predict")
    assert gpu.waits
    if precision == "32-true":
        command("fit", config, "--trainer.log_every_n_steps=1", "--run=runs/cpu")
        assert train_losses("runs/gpu") == train_losses("runs/cpu")
