"""Start the command: as the script that pip installs, or as `python -m mdconnector`."""

import gc

# Nearly all that a run makes stays to its end: looking for garbage that often finds none. It is
# said before click and cryptography are loaded, which make a good part of it.
gc.set_threshold(50_000)

from mdconnector.cli import main  # noqa: E402 - after the collector was told

if __name__ == "__main__":
    main()
