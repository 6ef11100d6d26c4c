"""The objects of a ModelDeployment, each a pure function of its spec, the installation and what is already recorded."""
