"""What `fluxflex.simulator.painter` paints with: nothing of it is public."""
