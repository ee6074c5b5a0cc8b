"""``python -m tinymbn`` is ``tinymbn``."""

from tinymbn.cli import main

if __name__ == "__main__":
    main()
