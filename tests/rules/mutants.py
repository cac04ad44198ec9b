"""Test doubles that get one decision wrong each: {"<rule> <what is wrong>": subclass of Rules or of Core}.

They stand in files by family; importing them fills the table. docs/protocol.md, "Verification": it must bite.
"""

from tests.rules import (
    mutants_of_changes,
    mutants_of_disk,
    mutants_of_links,
    mutants_of_members,
    mutants_of_ordering,
    mutants_of_retention,
    mutants_of_time,
    mutants_of_views,
)
from tests.rules.doubles import MUTANTS, Double

FAMILIES = (
    mutants_of_ordering,
    mutants_of_disk,
    mutants_of_views,
    mutants_of_links,
    mutants_of_members,
    mutants_of_changes,
    mutants_of_time,
    mutants_of_retention,
)

__all__ = ["FAMILIES", "MUTANTS", "Double"]
