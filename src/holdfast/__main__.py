"""`python -m holdfast` is the console script `holdfast`."""

import sys

from holdfast.cli import main

sys.exit(main())
