"""How fast training is, and what a checkpoint costs: our trainer and TRL's on the same machine in one run."""
