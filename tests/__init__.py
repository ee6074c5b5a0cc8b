"""Tests of tinymbn."""
