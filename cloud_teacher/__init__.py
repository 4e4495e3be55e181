"""The cloud: teachers, students made from them, and the worker that answers devices."""

import os

# Threads that wait must sleep. OpenMP's default is to spin: where two trainings share two cores that makes each four to
# nine times slower (measured); alone, sleeping costs about a sixth. Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
