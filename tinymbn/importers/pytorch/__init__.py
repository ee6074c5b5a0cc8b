"""PyTorch files, exported programs and state_dicts, as float networks."""
