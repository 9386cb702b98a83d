"""The machine: devices, processes, their launch, progress."""
