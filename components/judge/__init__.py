"""Release gate: scores in, a decision with its reasons out."""
