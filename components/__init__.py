"""How each step works: one folder a step, plus what two or more steps share."""
