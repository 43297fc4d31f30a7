"""`python -m raytile`."""

import sys

from raytile.cli import main

sys.exit(main())
