"""What every model shares that learns word vectors from a text: state, loop, checkpoints, face."""
