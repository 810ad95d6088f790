"""What the command lines of the comparisons have in common."""
import os

from . import paligrid, rounds


def add_common(ap):
    """Options of every comparison, behind its own."""
    ap.add_argument("--rounds", type=int, default=rounds.WANTED, help="rounds that count; three times as many are tried")
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--new-tokens", type=int, default=16)
    ap.add_argument("--llama", metavar="FOLDER", help="where llama-bench is (default: PATH)")
    ap.add_argument("--keep", action="store_true", help="leave what peers were given in --scratch (16 GB for 3B in all its forms)")
    ap.add_argument("--program", default=paligrid.PROGRAM)
    ap.add_argument("--scratch", metavar="FOLDER", help="where weights are written; what is there is used again (default: a temporary folder)")
    ap.add_argument("-o", "--output", choices=("text", "json", "csv"), default="text")


def parse(ap, option, known):
    """Arguments; args.OPTION is a list of names that have to be known, or None."""
    args = ap.parse_args()
    for name in getattr(args, option) or []:
        if name not in known:
            ap.error(f"--{option}: {name} is not one of {', '.join(known)}")
    if not os.access(args.program, os.X_OK):
        ap.error(f"no program at {args.program}; run make")
    return args
