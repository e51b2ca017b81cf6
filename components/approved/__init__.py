"""Approved? A decision in, "yes" or "no" out."""
