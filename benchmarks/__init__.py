"""How fast the service is, as ratios measured within one run."""
