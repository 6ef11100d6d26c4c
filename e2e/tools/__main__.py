"""`python -m e2e.tools [BINARY…]` builds what is missing (default: everything)."""

from e2e.tools.build import main

main()
