"""``python -m lineside`` is the ``lineside`` command."""

from lineside.cli import main

if __name__ == "__main__":
    main()
