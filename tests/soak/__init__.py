"""A soak of the simulated driver: random calls of every listed entry point by many processes, with kills."""
