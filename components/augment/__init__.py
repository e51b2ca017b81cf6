"""Augmentation: a data set version in, a training set (a manifest of stored images) out."""
