"""Worth a night? A data set version in, "train" or "skip" out, the reason logged and recorded."""
