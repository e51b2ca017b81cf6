"""Labeling intake: labeling exports in, one immutable data set version and a finding for every row out."""
