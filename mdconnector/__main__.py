"""Run the command as `python -m mdconnector`."""

from mdconnector.cli import main

main()
