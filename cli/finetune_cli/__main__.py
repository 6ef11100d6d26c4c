"""`python -m finetune_cli`."""

from finetune_cli.main import main

if __name__ == "__main__":
    main()
