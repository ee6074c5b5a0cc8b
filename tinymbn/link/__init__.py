"""The serial link to a board: frames, messages, the port and the conversation."""
