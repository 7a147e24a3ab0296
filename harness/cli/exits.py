"""What the exit codes mean."""

from __future__ import annotations

PASSED = 0
FAILED = 1
INVALID = 2  # the request can't be met as written
NOTHING = 3  # nothing was covered
OPEN = 4  # a measurement that shows neither a regression nor that there is none
INTERRUPTED = 130  # by the user, as shells count it; what was measured is kept
FAULT = 70  # of this program; EX_SOFTWARE of sysexits.h
