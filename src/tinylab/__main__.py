"""``python -m tinylab``."""

from tinylab.cli import main

main()
