"""Stage 1: unlabelled images, their regions, global views and local patches."""
