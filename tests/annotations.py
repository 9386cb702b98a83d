"""The checker of annotations under test: as PEP 484 has it, a function of a float takes an int."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
