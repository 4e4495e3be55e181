"""The training process: reads a job folder, leaves a candidate. The only part of the device that knows torch."""

import os

# Threads that wait must sleep: spinning ones, OpenMP's default, slow down everything else on a busy small device.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
