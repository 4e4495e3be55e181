"""The cloud: teachers, students made from them, and the worker that answers devices."""

import os

# Threads that wait must sleep. OpenMP's default is to spin, and where two trainings share two cores that makes each six
# times slower (measured); alone it costs nothing. Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
