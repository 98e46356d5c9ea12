"""``python -m noderun`` is ``noderun``."""

import os
import sys

if sys.path[0] == os.getcwd():  # `python -m` puts it there; what lies where somebody stands is not to be imported
    del sys.path[0]

from noderun.cli.main import main

sys.exit(main())
