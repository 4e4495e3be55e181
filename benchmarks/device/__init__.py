"""What a device spends: memory, time, bytes. Every figure is a ratio to peers that ran in the same minutes."""
