"""From a spec to its operations: one file a family. Torch-free."""
