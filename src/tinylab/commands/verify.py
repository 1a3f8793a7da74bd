"""``tinylab verify``: prove on this machine that a killed and resumed run ends with the same bits.

The run's config is trained three times in a temporary folder: undisturbed; killed by SIGKILL at
random moments and resumed; and with another seed, which must be found different, or the
comparison itself would be worthless.
"""

import dataclasses
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylab.commands.parser import Parser
from tinylab.config import code
from tinylab.config.options import without_code
from tinylab.config.user_code import is_key
from tinylab.errors import UserError
from tinylab.store.folder import RunFolder
from tinylab.store.predictions import Predictions
from tinylab.store.query import runs_in
from tinylab.store.result import Result
from tinylab.store.run import Run
from tinylab.ui.console import say

TIMINGS = ("seconds", "images_per_second", "time")  # columns of the metrics that may differ
# With -P a types.py in the working folder stays out of Python's way.
PROGRAM = (sys.executable, "-P", "-m", "tinylab")
