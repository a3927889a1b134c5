"""Numbers from reconstructions and vectors: privacy, utility, their summary over seeds, and the frontier of both."""
