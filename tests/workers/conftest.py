from tests.models.parts import builtin  # noqa: F401 - a fixture
