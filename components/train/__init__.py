"""Training: a training set and the champion's weights in, a checkpoint out."""
