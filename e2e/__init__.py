"""A real cluster, the tools it is made of, and the scenarios that run on it."""
