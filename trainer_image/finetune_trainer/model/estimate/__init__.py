"""Memory, time and checkpoint size of a job from its spec and its model's shapes: before any GPU is taken, without
torch."""
