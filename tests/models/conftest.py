from tests.models.parts import builtin as builtin
