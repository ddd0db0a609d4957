"""`python -m dmedia_transfer.cli`: the command line where the package is not installed."""

import sys

from dmedia_transfer.cli.app import main

sys.exit(main())
