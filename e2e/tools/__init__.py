"""The programs a bare machine lacks, pinned by version and built from their own Go modules."""

from e2e.tools.build import ensure, path, tool_dir

__all__ = ["ensure", "path", "tool_dir"]
