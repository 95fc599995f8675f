"""`python -m atoll.cli`: the `atoll` command, where its script is not on PATH."""

from atoll.cli import main

if __name__ == "__main__":
    main(prog_name="python -m atoll.cli")
