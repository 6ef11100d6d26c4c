from finetune_operator.shell.main import main

if __name__ == "__main__":
    raise SystemExit(main())
