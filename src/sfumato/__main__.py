"""What ``python -m sfumato`` does: the same as the command ``sfumato``."""

import sys

from sfumato.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())
