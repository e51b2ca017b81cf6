"""Notify: the final status of a night in, one message out."""
