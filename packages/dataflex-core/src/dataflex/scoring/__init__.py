"""What every component that runs the pool through the model needs: inputs, a quiet model, losses, progress."""
