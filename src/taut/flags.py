"""The flags of a command line, which Hydra takes in one order only and refuses with a page of usage."""

import re
import sys
from argparse import ArgumentError, Namespace

from hydra._internal.utils import get_args_parser

from taut.errors import UserError, nearest


def parsed() -> Namespace:
    """What ``sys.argv`` asks for, wherever its flags stand; they are put in front of its words, as Hydra wants them.

    Raises:
        UserError: For a flag that does not exist or that has not the value it needs.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        args, unknown = parser.parse_known_intermixed_args()
    except ArgumentError as error:
        raise UserError(f"{str(error).removeprefix('argument ').capitalize()}; see --help and --hydra-help.") from error
    if unknown:
        known = re.findall(r"--[\w-]+", parser.format_usage())
        raise UserError(f"There is no flag {unknown[0]}; {nearest(unknown[0], known)}")
    flags = [word for word in sys.argv[1:] if word not in args.overrides]
    sys.argv[1:] = [*flags, *args.overrides]
    return args
