"""Errors of the population; what a database refuses is SQLAlchemy's to say."""

from rubis_adapter.errors import RubisError


class PopulationError(RubisError):
    """Raised when a data set cannot be made; the base of all errors of this package."""


class UnknownDataSet(PopulationError):
    """A data set was asked for that does not exist; whoever called corrects the name."""


class UnknownDialect(PopulationError):
    """Files were asked for a database that is neither MariaDB nor PostgreSQL; whoever called corrects the name."""
