"""Keras files, and weights of keras.applications, as float networks."""
