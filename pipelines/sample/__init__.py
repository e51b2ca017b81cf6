"""Sample factory: industrial parts on a conveyor, drawn deterministically, exported as labelers would."""
