"""The parts of `aliquot bench placement`: reading traces, the protocols, the bounds, speed, pictures."""
