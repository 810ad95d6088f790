#!/usr/bin/env python3
"""Write the cases of a golden file as JSON for `paligrid dump --cases`: cases_of.py GOLDEN.h5 OUT.json"""
import sys

import oracle

if __name__ == "__main__":
    if len(sys.argv) != 3 or "--help" in sys.argv:
        raise SystemExit(__doc__)
    oracle.cases_of(sys.argv[1], sys.argv[2])
