"""The programs a bare machine lacks, pinned by version and built from their own Go modules."""

from e2e.tools.build import ensure, path, tool_dir, tool_of

__all__ = ["ensure", "path", "tool_dir", "tool_of"]
