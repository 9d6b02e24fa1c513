"""What the figures in the documentation come from: each contestant in its own process, in the same run."""
