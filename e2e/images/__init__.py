"""The product's images: built from the repository's own Dockerfiles, with or without a registry to start from."""
