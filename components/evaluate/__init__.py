"""mAP evaluation: challenger, champion and the frozen test set in, scores out. It measures and does not decide."""
