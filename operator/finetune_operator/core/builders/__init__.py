"""The objects we create, each a pure function of the job, the installation and the decision already recorded."""
