"""A small package, as the tests of models have it."""

from tests.models.conftest import archive, parts  # noqa: F401  fixtures
