"""What harm states are written with: set-up of a scene, trusted evidence, facets, side effects."""
