"""What every operation is built from: arrays, the choice of a backend, checks, CUDA, torch."""
