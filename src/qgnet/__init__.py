"""QGNet: few-shot segmentation with global and local contrastive learning, on PyTorch Lightning."""
