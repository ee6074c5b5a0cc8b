"""Turns a Graph and a Board into a C project."""
