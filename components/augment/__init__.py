"""Augmentation: a data set version in, a training set (a manifest of stored images) out.

One pod with all its cores, not a `ParallelFor` over shards: the DAG stays the same on a laptop, whose local runner caps
such a loop at two at once, and 10,000 new images are minutes of one pod beside hours of training.
"""
